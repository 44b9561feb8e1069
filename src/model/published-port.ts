import { anyAddress4, familyOf, tryParseAddress, type IpAddress } from '../ip/address.ts';
import { portProtocol, type PortProtocol } from '../ip/port-protocol.ts';
import {
  endpointAddresses,
  endpointAnnotations,
  type WorkloadEndpoint,
} from './kinds/workload-endpoint.ts';

/** One port of the host that leads to a port of the container. */
export interface PublishedPort {
  readonly protocol: PortProtocol;
  /** The unspecified address of a family stands for all of the host's. */
  readonly hostIp: IpAddress;
  readonly hostPort: number;
  /** The container's. */
  readonly port: number;
}

/** The published ports of an endpoint; ports without a host port, and what makes no sense, are passed over. */
export function publishedPorts(endpoint: WorkloadEndpoint | undefined): readonly PublishedPort[] {
  return (endpoint?.spec.ports ?? []).flatMap(({ protocol, port, hostPort = 0, hostIP }) => {
    const known = portProtocol(protocol);
    const hostIp = hostIP === undefined || hostIP === '' ? anyAddress4 : tryParseAddress(hostIP);
    const isPort = (number: number) => number > 0 && number < 65_536;
    if (known === undefined || hostIp === undefined || !isPort(hostPort) || !isPort(port))
      return [];
    return [{ protocol: known, hostIp, hostPort, port }];
  });
}

/** The endpoint with these published ports and no others, in Calico's form; other named ports stay. */
export function withPublishedPorts(
  endpoint: WorkloadEndpoint,
  ports: readonly PublishedPort[],
): WorkloadEndpoint {
  const { ports: before = [], ...spec } = endpoint.spec;
  const all = [
    ...before.filter(({ hostPort = 0 }) => hostPort === 0),
    ...ports.map(({ protocol, hostIp, hostPort, port }) => ({
      name: `${protocol.toLowerCase()}-${hostPort}`,
      protocol,
      port,
      hostPort,
      hostIP: hostIp,
    })),
  ];
  return { ...endpoint, spec: all.length === 0 ? spec : { ...spec, ports: all } };
}

/** Whether published ports are let in where no rule decides: unless their network leaves all to the rules. */
export function admitsPublished(endpoint: WorkloadEndpoint): boolean {
  return endpoint.metadata.annotations?.[endpointAnnotations.published] !== 'policy';
}

/** The endpoint's address that a port published on an address leads to; of `::1` any will do, as it is relayed. */
export function targetAddress(
  endpoint: WorkloadEndpoint,
  hostIp: IpAddress,
): IpAddress | undefined {
  const addresses = endpointAddresses(endpoint);
  const same = addresses.find((address) => familyOf(address) === familyOf(hostIp));
  return same ?? (hostIp === '::1' ? addresses[0] : undefined);
}
