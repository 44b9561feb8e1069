import { tryParseNet } from '../ip/cidr.ts';
import { protocolNumber } from '../profiles/compile/compiled-rule.ts';
import { protocol as protocolSchema } from '../model/policy-rule.ts';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import type { FailsafePort, Failsafes } from '../ruleset/host-endpoint.ts';

const [tcpNumber, udpNumber] = [6, 17];
const tcp = (...ports: readonly number[]) => ports.map((port) => ({ protocol: tcpNumber, port }));
const udp = (...ports: readonly number[]) => ports.map((port) => ({ protocol: udpNumber, port }));

/** BGP, etcd, Typha, and the API servers of Kubernetes. Source: Felix, `FailsafeInboundHostPorts`. */
const felixPorts = tcp(179, 2379, 2380, 5473, 6443, 6666, 6667);
/** Management of a swarm, gossip of its networks, and their VXLAN packets. */
const swarmPorts = [...tcp(2377, 7946), ...udp(7946, 4789)];
/** Joining the cluster of calico-cnm. */
const ownPorts = tcp(2381);

/**
 * The ports that host endpoints leave open by default: Felix's, Docker Swarm's, those of this program and DHCP for IPv6.
 */
const defaults: Failsafes = {
  inbound: [...tcp(22), ...udp(68, 546), ...felixPorts, ...swarmPorts, ...ownPorts],
  outbound: [...udp(53, 67, 547), ...felixPorts, ...swarmPorts, ...ownPorts],
};

type ProtocolPorts = FelixConfiguration['spec']['failsafeInboundHostPorts'];

/**
 * Returns the failsafe ports of a node. A list in FelixConfiguration replaces the default one, an empty one included;
 * `dockerPorts` are those on which the Docker API listens, which belong to the default.
 */
export function failsafesOf(
  ofNode: FelixConfiguration | undefined,
  ofAll: FelixConfiguration | undefined,
  dockerPorts: readonly number[],
): Failsafes {
  const given = (key: 'failsafeInboundHostPorts' | 'failsafeOutboundHostPorts'): ProtocolPorts =>
    ofNode?.spec[key] ?? ofAll?.spec[key];
  const inbound = given('failsafeInboundHostPorts');
  const outbound = given('failsafeOutboundHostPorts');
  return {
    inbound: inbound?.flatMap(portOf) ?? [...defaults.inbound, ...tcp(...dockerPorts)],
    outbound: outbound?.flatMap(portOf) ?? defaults.outbound,
  };
}

/** Ignores an entry that cannot be read: the others are open all the same. */
function portOf({
  protocol,
  port,
  net,
}: NonNullable<ProtocolPorts>[number]): readonly FailsafePort[] {
  const number = protocolSchema.safeParse(protocol ?? 'TCP');
  const known = number.success ? protocolNumber(number.data) : undefined;
  const isRestricted = net !== undefined && net !== '';
  const only = isRestricted ? tryParseNet(net) : undefined;
  const isReadable = !isRestricted || only !== undefined;
  if (known === undefined || port === undefined || !isReadable) return [];
  return [{ protocol: known, port, ...(only === undefined ? {} : { net: only }) }];
}
