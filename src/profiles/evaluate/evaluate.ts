import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { familyOf } from '../../ip/address.ts';
import { cidrContains, cidrFamily } from '../../ip/cidr.ts';
import type { IcmpType, NamedPort, PortRange, RuleName } from '../../ruleset/policy.ts';
import type { Selector } from '../../model/selector/ast.ts';
import type { CompiledEntity, CompiledRule } from '../compile/compiled-rule.ts';
import type { CompiledProfile } from '../compile/compiled-profile.ts';

/** The first packet of a flow. */
export interface Packet {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  /** For protocols that have ports. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
}

/** What policy says, and which rule of which Profile said it; none of them: no rule matched. */
export interface Verdict {
  readonly isAllowed: boolean;
  readonly policy?: string;
  readonly rule?: RuleName;
}

/** Whether an address is that of an endpoint which the selector matches. */
export type Membership = (selector: Selector, address: IpAddress) => boolean;

/** Whether an endpoint with the address has a port of the protocol by that name. */
export type PortNames = (
  name: string,
  address: IpAddress,
  port: { readonly protocol: number; readonly port: number },
) => boolean;

/** What of a packet is not in the packet. */
export interface Surroundings {
  readonly isMember: Membership;
  readonly hasNamedPort: PortNames;
}

/** What an endpoint's Profiles say of a packet to it (`ingress`) or from it (`egress`), without the kernel. */
export function evaluateProfiles(
  profiles: readonly CompiledProfile[],
  direction: 'ingress' | 'egress',
  { packet, ...surroundings }: Surroundings & { readonly packet: Packet },
): Verdict {
  for (const profile of profiles) {
    if (profile.problem !== undefined) return { isAllowed: false, policy: profile.name };
    for (const rule of profile[direction]) {
      if (rule.action === 'Log' || !matchesRule(rule, packet, surroundings)) continue;
      if (rule.action === 'Pass') break;
      return { isAllowed: rule.action === 'Allow', policy: profile.name, rule: rule.name };
    }
  }
  return { isAllowed: false };
}

function matchesRule(rule: CompiledRule, packet: Packet, surroundings: Surroundings): boolean {
  const family = familyOf(packet.source);
  if (rule.ipVersion !== undefined && rule.ipVersion !== family) return false;
  if (rule.protocol === (family === 4 ? 58 : 1)) return false;
  if (rule.protocol !== undefined && rule.protocol !== packet.protocol) return false;
  if (rule.notProtocol === packet.protocol) return false;
  if (rule.icmp?.type !== undefined && !matchesIcmp(rule.icmp, packet)) return false;
  if (rule.notIcmp?.type !== undefined && matchesIcmp(rule.notIcmp, packet)) return false;
  const { protocol } = packet;
  const source = { address: packet.source, port: packet.sourcePort };
  const destination = { address: packet.destination, port: packet.destinationPort };
  return (
    matchesEntity(rule.source, { ...source, family, protocol }, surroundings) &&
    matchesEntity(rule.destination, { ...destination, family, protocol }, surroundings)
  );
}

function matchesEntity(
  entity: CompiledEntity,
  end: {
    readonly address: IpAddress;
    readonly protocol: number;
    readonly port: number;
    readonly family: IpFamily;
  },
  { isMember, hasNamedPort }: Surroundings,
): boolean {
  const { address, port, family } = end;
  const isNamed = ({ name }: NamedPort) => hasNamedPort(name, address, end);
  const hasPorts = entity.ports.length + entity.namedPorts.length > 0;
  const nets = entity.nets.filter((net) => cidrFamily(net) === family);
  return (
    (entity.nets.length === 0 || nets.some((net) => cidrContains(net, address))) &&
    !entity.notNets.some((net) => cidrContains(net, address)) &&
    (!hasPorts ||
      entity.ports.some((range) => isIn(range, port)) ||
      entity.namedPorts.some(isNamed)) &&
    !entity.notPorts.some((range) => isIn(range, port)) &&
    !entity.notNamedPorts.some(isNamed) &&
    (entity.selected === undefined || isMember(entity.selected.selector, address)) &&
    (entity.notSelected === undefined || !isMember(entity.notSelected.selector, address))
  );
}

function matchesIcmp({ type, code }: IcmpType, packet: Packet): boolean {
  return packet.icmpType === type && (code === undefined || packet.icmpCode === code);
}

function isIn({ first, last }: PortRange, port: number): boolean {
  return first <= port && port <= last;
}
