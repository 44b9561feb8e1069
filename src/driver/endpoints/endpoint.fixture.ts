import { parseAddress } from '../../ip/address.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { newEndpoint } from './endpoint-record.ts';

/** A network without options and without Calico IPAM. */
export function plainNetwork(node: string, id: string): DockerNetwork {
  return {
    id,
    node,
    ipam: 'docker',
    internal: false,
    ipv4: true,
    ipv6: false,
    subnets: [],
    options: {},
  };
}

/** An endpoint on a network, without Profiles and labels of its own. */
export function plainEndpoint(
  network: DockerNetwork,
  endpointId: string,
  address: string,
): WorkloadEndpoint {
  return newEndpoint(
    {
      node: network.node,
      network,
      endpointId,
      addresses: [parseAddress(address)],
      mac: 'ca:00:00:00:00:01',
      options: {},
    },
    { profiles: [], labels: {}, ports: [], problems: [] },
  );
}
