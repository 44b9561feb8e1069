import type { ReservedPort } from '../../dataplane/host-ports/host-port-reservations.ts';
import {
  anyAddress4,
  anyAddress6,
  familyOf,
  parseAddress,
  type IpFamily,
} from '../../ip/address.ts';
import { targetAddress, type PublishedPort } from '../../model/published-port.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';

const loopback6 = parseAddress('::1');

/** With more ports, none is relayed: each relay is one more descriptor and socket of this process. */
const maxRelayedPorts = 1000;

/**
 * Returns the sockets that reserve the published ports of an endpoint. A port on all IPv4 addresses is also served on
 * `[::1]` if the host has it, because `localhost` may mean either; connections to `::1`, which the kernel does not
 * translate, are relayed. With very many ports only those published on `[::1]` are relayed.
 */
export function portBindings(
  endpoint: WorkloadEndpoint,
  ports: readonly PublishedPort[],
  families: readonly IpFamily[],
  /** The total number of ports that the endpoint publishes. */
  portCount = ports.length,
): readonly ReservedPort[] {
  const key = ({ protocol, hostPort }: PublishedPort) => `${protocol} ${hostPort}`;
  const on6 = ports.filter(({ hostIp }) => hostIp === anyAddress6 || hostIp === loopback6);
  const own6 = new Set(on6.map(key));
  const hasOwn6 = (published: PublishedPort) => own6.has(key(published));
  const areRelayed = portCount <= maxRelayedPorts;
  return ports.flatMap((published): readonly ReservedPort[] => {
    const { protocol, hostIp, hostPort, port } = published;
    const address = targetAddress(endpoint, hostIp);
    if (address === undefined || !families.includes(familyOf(hostIp))) return [];
    const held = { protocol, address: hostIp, port: hostPort };
    if (!areRelayed && hostIp !== loopback6) return [held];
    const relayTo = { address, port };
    if (hostIp === anyAddress6 || hostIp === loopback6) return [{ ...held, relayTo }];
    const isRelayed =
      hostIp === anyAddress4 && families.includes(6) && protocol !== 'SCTP' && !hasOwn6(published);
    return isRelayed ? [held, { ...held, address: loopback6, relayTo, isIfThere: true }] : [held];
  });
}
