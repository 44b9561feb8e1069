import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { familyOf } from '../../ip/address.ts';
import { cidrContains, cidrFamily } from '../../ip/cidr.ts';
import type { IcmpType, PortRange, RuleName } from '../../ruleset/policy.ts';
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

/** What an endpoint's Profiles say of a packet to it (`ingress`) or from it (`egress`), without the kernel. */
export function evaluateProfiles(
  profiles: readonly CompiledProfile[],
  direction: 'ingress' | 'egress',
  { packet, isMember }: { readonly packet: Packet; readonly isMember: Membership },
): Verdict {
  for (const profile of profiles) {
    if (profile.problem !== undefined) return { isAllowed: false, policy: profile.name };
    for (const rule of profile[direction]) {
      if (rule.action === 'Log' || !matchesRule(rule, packet, isMember)) continue;
      if (rule.action === 'Pass') break;
      return { isAllowed: rule.action === 'Allow', policy: profile.name, rule: rule.name };
    }
  }
  return { isAllowed: false };
}

function matchesRule(rule: CompiledRule, packet: Packet, isMember: Membership): boolean {
  const family = familyOf(packet.source);
  if (rule.ipVersion !== undefined && rule.ipVersion !== family) return false;
  if (rule.protocol === (family === 4 ? 58 : 1)) return false;
  if (rule.protocol !== undefined && rule.protocol !== packet.protocol) return false;
  if (rule.notProtocol === packet.protocol) return false;
  if (rule.icmp?.type !== undefined && !matchesIcmp(rule.icmp, packet)) return false;
  if (rule.notIcmp?.type !== undefined && matchesIcmp(rule.notIcmp, packet)) return false;
  const source = { address: packet.source, port: packet.sourcePort };
  const destination = { address: packet.destination, port: packet.destinationPort };
  return (
    matchesEntity(rule.source, { ...source, family }, isMember) &&
    matchesEntity(rule.destination, { ...destination, family }, isMember)
  );
}

function matchesEntity(
  entity: CompiledEntity,
  end: { readonly address: IpAddress; readonly port: number; readonly family: IpFamily },
  isMember: Membership,
): boolean {
  const { address, port, family } = end;
  const nets = entity.nets.filter((net) => cidrFamily(net) === family);
  return (
    (entity.nets.length === 0 || nets.some((net) => cidrContains(net, address))) &&
    !entity.notNets.some((net) => cidrContains(net, address)) &&
    (entity.ports.length === 0 || entity.ports.some((range) => isIn(range, port))) &&
    !entity.notPorts.some((range) => isIn(range, port)) &&
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
