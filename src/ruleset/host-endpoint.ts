import type { IpFamily } from '../ip/address.ts';
import { cidrFamily, type Cidr } from '../ip/cidr.ts';
import { dropReasons, noMatch } from './drop-reasons.ts';
import type { Direction, StackTier } from './policy.ts';
import type { HostRule } from './statement.ts';

/** The name of a host endpoint's interface if it covers all that no other one covers. */
export const anyInterface = '*';

/**
 * The tiers of a host endpoint on one interface. They are applied in this order: a packet that the untracked ones allow
 * meets none of the others, one that `preDnat` allows none of the rest that judge its arrival.
 */
export interface GuardedInterface {
  /** `anyInterface`: all that are not guarded by name, except containers' and `lo`. */
  readonly interface: string;
  /** Of all packets, before connection tracking. They deny by their rules only. */
  readonly untracked: readonly StackTier[];
  /** Of arriving packets, before destination NAT. They deny by their rules only. */
  readonly preDnat: readonly StackTier[];
  /** Of packets to the host and from it, Profiles last; what none of them decides is denied. */
  readonly local: readonly StackTier[];
  /** Of forwarded packets. Without tiers of a direction they are not judged. */
  readonly forwarded: readonly StackTier[];
  /**
   * Denies all that starts here, before connection tracking excepted: the tables are written one after the other, and
   * a rule that moves to another table would be in none of them meanwhile.
   */
  readonly isHeld?: true;
}

/** A port that host endpoints never close. */
export interface FailsafePort {
  readonly protocol: number;
  readonly port: number;
  /** Only for these addresses of the other end. */
  readonly net?: Cidr;
}

/** Of connections to the host, and from it. */
export interface Failsafes {
  readonly inbound: readonly FailsafePort[];
  readonly outbound: readonly FailsafePort[];
}

/** The host endpoints of this host. */
export interface HostGuards {
  /** In the order of their names, `anyInterface` last. */
  readonly interfaces: readonly GuardedInterface[];
  readonly failsafes: Failsafes;
}

/** Which of the host endpoints' rules are in use: the hooks of the others are not needed. */
export interface GuardedStages {
  readonly isForwarded: boolean;
  readonly isPreDnat: boolean;
  readonly isUntracked: boolean;
}

/** Returns which rules are in use; `undefined`: there are no host endpoints. */
export function guardedStages({ interfaces }: HostGuards): GuardedStages | undefined {
  if (interfaces.length === 0) return undefined;
  const has = (tiersOf: (one: GuardedInterface) => readonly StackTier[]) =>
    interfaces.some((one) => tiersOf(one).length > 0);
  return {
    isForwarded: has(({ forwarded }) => forwarded),
    isPreDnat: has(({ preDnat }) => preDnat),
    isUntracked: has(({ untracked }) => untracked),
  };
}

const reconsider: HostRule = { name: 'start', when: [], action: { kind: 'reconsider' } };

/** Returns the rules for packets to the host (`ingress`) or from it by an interface. */
export function localRules(
  { local, isHeld }: GuardedInterface,
  direction: Direction,
  family: IpFamily,
): readonly HostRule[] {
  const failsafe = direction === 'ingress' ? 'failsafeInbound' : 'failsafeOutbound';
  return [
    ...connectionRules('accept', direction),
    ...(family === 6 ? neighbourDiscovery : []),
    { name: 'failsafe ports', when: [], action: { kind: 'block', block: failsafe } },
    reconsider,
    ...(isHeld === true ? [held(direction)] : [...tierRules(local, direction), deny(direction)]),
  ];
}

/**
 * Returns the rules for packets that the host forwards, and that arrive or leave by an interface. They only deny: what
 * they allow, or the last tier passes on, is accepted if the rules of containers and those of other programs accept it
 * too. Source: Felix, endpointIptablesChain.
 */
export function forwardedRules(
  { forwarded, isHeld }: GuardedInterface,
  direction: Direction,
): readonly HostRule[] {
  const tiers = tierRules(forwarded, direction);
  if (tiers.length === 0) return [];
  return [
    ...connectionRules('return', direction),
    reconsider,
    ...(isHeld === true ? [held(direction)] : tiers),
  ];
}

/** Returns the rules for packets that arrive by an interface, before destination NAT. */
export function preDnatRules(
  { preDnat, isHeld }: GuardedInterface,
  family: IpFamily,
): readonly HostRule[] {
  if (preDnat.length === 0) return [];
  return [
    ...connectionRules('return', 'ingress'),
    ...(family === 6 ? neighbourDiscovery : []),
    {
      name: 'failsafe ports',
      when: [],
      action: { kind: 'block', block: 'preDnatFailsafeInbound' },
    },
    ...(isHeld === true ? [held('ingress')] : tierRules(preDnat, 'ingress')),
  ];
}

/** Returns the rules for packets before connection tracking. */
export function untrackedRules(
  { untracked }: GuardedInterface,
  direction: Direction,
  family: IpFamily,
): readonly HostRule[] {
  const tiers = tierRules(untracked, direction);
  if (tiers.length === 0) return [];
  const failsafe =
    direction === 'ingress' ? 'untrackedFailsafeInbound' : 'untrackedFailsafeOutbound';
  return [
    ...(family === 6 ? neighbourDiscovery : []),
    { name: 'failsafe ports', when: [], action: { kind: 'block', block: failsafe } },
    ...tiers,
  ];
}

function deny(direction: Direction): HostRule {
  const reason = noMatch(direction, true);
  return { name: 'otherwise', when: [], action: { kind: 'drop', reason } };
}

function held(direction: Direction): HostRule {
  return { ...deny(direction), name: 'held', comment: 'Policy is being replaced' };
}

function tierRules(tiers: readonly StackTier[], direction: Direction): readonly HostRule[] {
  return tiers
    .filter((tier) => tier[direction].length > 0)
    .map((tier) => ({
      name: `tier ${tier.name}`,
      when: [],
      action: { kind: 'tier', tier, direction, isOfHost: true },
    }));
}

function connectionRules(kind: 'accept' | 'return', direction: Direction): readonly HostRule[] {
  return [
    {
      name: 'of a connection',
      when: [{ kind: 'connection', is: 'established' }],
      action: { kind },
    },
    {
      name: 'related to a connection',
      when: [{ kind: 'connection', is: 'related' }],
      action: { kind },
    },
    {
      name: 'invalid conntrack state',
      when: [{ kind: 'connection', is: 'invalid' }],
      action: {
        kind: 'drop',
        reason: dropReasons[direction === 'ingress' ? 'hostInvalidTo' : 'hostInvalidFrom'],
      },
      comment: 'Of no connection',
    },
  ];
}

/** Without neighbour discovery and multicast listener reports, nothing reaches the host, the failsafe ports included. */
const neighbourDiscovery: readonly HostRule[] = [130, 131, 132, 133, 134, 135, 136, 143].map(
  (type) => ({
    name: `neighbour discovery, type ${type}`,
    when: [
      { kind: 'protocol', protocol: 58 },
      { kind: 'icmpType', type },
    ],
    action: { kind: 'accept' },
  }),
);

/** Returns the rules of the failsafe ports of connections to the host (`ingress`), or from it. */
export function failsafeRules(
  { inbound, outbound }: Failsafes,
  direction: Direction,
  family: IpFamily,
): readonly HostRule[] {
  return direction === 'ingress'
    ? portRules(inbound, family, 'destinationPort', 'source')
    : portRules(outbound, family, 'destinationPort', 'destination');
}

/** Likewise, before connection tracking: with the replies, which no connection identifies. */
export function untrackedFailsafeRules(
  failsafes: Failsafes,
  direction: Direction,
  family: IpFamily,
): readonly HostRule[] {
  const { inbound, outbound } = failsafes;
  const replies =
    direction === 'ingress'
      ? portRules(outbound, family, 'sourcePort', 'source')
      : portRules(inbound, family, 'sourcePort', 'destination');
  return [...failsafeRules(failsafes, direction, family), ...replies];
}

function portRules(
  ports: readonly FailsafePort[],
  family: IpFamily,
  side: 'sourcePort' | 'destinationPort',
  otherEnd: 'source' | 'destination',
): readonly HostRule[] {
  return ports
    .filter(({ net }) => net === undefined || cidrFamily(net) === family)
    .map(({ protocol, port, net }) => ({
      name: `${side} ${protocol}/${port}${net === undefined ? '' : ` of ${net}`}`,
      when: [
        { kind: 'protocol', protocol },
        { kind: side, port },
        ...(net === undefined ? [] : [{ kind: otherEnd, net } as const]),
      ],
      action: { kind: 'accept' },
    }));
}
