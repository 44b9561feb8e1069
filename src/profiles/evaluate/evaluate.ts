import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { familyOf } from '../../ip/address.ts';
import { cidrContains, cidrFamily } from '../../ip/cidr.ts';
import { stackRules } from '../../ruleset/judging.ts';
import {
  enforcedStack,
  type Direction,
  type IcmpType,
  type NamedPort,
  type PolicyId,
  type PortRange,
  type RuleName,
  type Stack,
  type StackTier,
} from '../../ruleset/policy.ts';
import type { StackRule } from '../../ruleset/statement.ts';
import type { CompiledEntity, CompiledRule, Selected } from '../compile/compiled-rule.ts';
import type { CompiledPolicy } from '../compile/compiled-policy.ts';

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
  /** Whether its connection was started through a published port that allows connections. */
  readonly cameByPublishedPort?: boolean;
}

/** The verdict, with the rule and policy, or the tier, that decided; without them nothing did. */
export interface Verdict {
  readonly isAllowed: boolean;
  /** The tier whose default action denies, because none of its policies decided. */
  readonly tier?: string;
  readonly policy?: PolicyId;
  readonly rule?: RuleName;
}

/** Reports whether the selector matches an endpoint or network set with the address. */
export type Membership = (selected: Selected, address: IpAddress) => boolean;

/** Reports whether an endpoint with the address has a port of that protocol and name. */
export type PortNames = (
  name: string,
  address: IpAddress,
  port: { readonly protocol: number; readonly port: number },
) => boolean;

/** Facts about a packet that it does not contain. */
export interface Surroundings {
  readonly isMember: Membership;
  readonly hasNamedPort: PortNames;
}

/**
 * Evaluates a stack for a packet to its endpoints (`ingress`) or from them (`egress`), without the kernel, from the same
 * rules that a renderer gets. `compiled` returns its policies; staged ones have no effect.
 */
export function evaluateStack(
  { stack, compiled }: JudgedStack,
  direction: Direction,
  { packet, ...surroundings }: Surroundings & { readonly packet: Packet },
): Verdict {
  for (const { when, action } of stackRules(enforcedStack(stack), direction)) {
    if (!when.every((condition) => holds(condition, packet))) continue;
    if (action.kind !== 'tier') return { isAllowed: action.kind === 'allow' };
    const verdict = evaluateTier(action.tier, { direction, compiled, packet, surroundings });
    if (verdict !== 'pass') return verdict;
  }
  return { isAllowed: false };
}

/** A stack with its policies. */
export interface JudgedStack {
  readonly stack: Stack;
  readonly compiled: (id: PolicyId) => CompiledPolicy;
}

interface Evaluation {
  readonly direction: Direction;
  readonly compiled: (id: PolicyId) => CompiledPolicy;
  readonly packet: Packet;
  readonly surroundings: Surroundings;
}

function evaluateTier(tier: StackTier, evaluation: Evaluation): Verdict | 'pass' {
  const { direction, compiled } = evaluation;
  for (const id of tier[direction]) {
    const verdict = evaluatePolicy(compiled(id), evaluation);
    if (verdict === 'pass' && tier.passLeaves === 'tier') return 'pass';
    if (verdict !== 'pass' && verdict !== undefined) return verdict;
  }
  return tier.defaultAction === 'Deny' ? { isAllowed: false, tier: tier.name } : 'pass';
}

function holds(condition: StackRule['when'][number], packet: Packet): boolean {
  switch (condition.kind) {
    case 'protocol':
      return (packet.protocol === condition.protocol) !== (condition.negated ?? false);
    case 'destinationPort':
      return packet.destinationPort === condition.port;
    case 'connection':
      return condition.is === 'new';
    case 'cameByPublishedPort':
      return packet.cameByPublishedPort === true;
    default:
      return condition satisfies never;
  }
}

/** `pass` if a rule says so, `undefined` if no rule of the policy decides. */
function evaluatePolicy(
  policy: CompiledPolicy,
  { direction, packet, surroundings }: Evaluation,
): Verdict | 'pass' | undefined {
  if (policy.problem !== undefined) return { isAllowed: false, policy: policy.id };
  for (const rule of policy[direction]) {
    if (rule.action === 'Log' || !matchesRule(rule, packet, surroundings)) continue;
    if (rule.action === 'Pass') return 'pass';
    return { isAllowed: rule.action === 'Allow', policy: policy.id, rule: rule.name };
  }
  return undefined;
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
    (entity.selected === undefined || isMember(entity.selected, address)) &&
    (entity.notSelected === undefined || !isMember(entity.notSelected, address))
  );
}

function matchesIcmp({ type, code }: IcmpType, packet: Packet): boolean {
  return packet.icmpType === type && (code === undefined || packet.icmpCode === code);
}

function isIn({ first, last }: PortRange, port: number): boolean {
  return first <= port && port <= last;
}
