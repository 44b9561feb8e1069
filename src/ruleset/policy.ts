import type { IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';

/**
 * Policy as data, independent of the kernel's mechanisms: the criteria of rules, in lists of any length, and the
 * tiers of policies that judge the packets of an endpoint. A renderer (`render/`) turns it into chains, marks, sets or maps.
 */

/** Seen from the endpoint: `ingress` packets go to it, `egress` packets come from it. */
export type Direction = 'ingress' | 'egress';

export const directions: readonly Direction[] = ['ingress', 'egress'];

/** The kinds of policies. */
export type PolicyKind = 'Profile' | EnforcedKind | StagedKind;
export const enforcedKinds = ['NetworkPolicy', 'GlobalNetworkPolicy'] as const;
export type EnforcedKind = (typeof enforcedKinds)[number];
/** Policies that are tried out: they are part of a stack, and have no effect on packets. */
export const stagedKinds = ['StagedNetworkPolicy', 'StagedGlobalNetworkPolicy'] as const;
export type StagedKind = (typeof stagedKinds)[number];

/**
 * Where a policy judges packets of host endpoints: packets to the host and from it, and forwarded ones; arriving packets
 * before destination NAT; or all packets before connection tracking.
 */
export type HostStage = 'host' | 'preDnat' | 'untracked';

/** Identity of a policy; that of its resource is `resourceKey`. */
export interface PolicyId {
  readonly tier: string;
  readonly kind: PolicyKind;
  /** Only of kinds that have namespaces. */
  readonly namespace?: string;
  /** As it is stored. */
  readonly name: string;
  /** For host endpoints; absent for containers. */
  readonly stage?: HostStage;
}

/** The tier of Profiles: the last one of each endpoint. Calico's tiers have names without `/`. */
export const profileTier = '/profiles';

/** Returns the identity of a Profile as a policy. */
export function profilePolicy(name: string): PolicyId {
  return { tier: profileTier, kind: 'Profile', name };
}

const shortKinds = {
  Profile: 'pro',
  NetworkPolicy: 'np',
  GlobalNetworkPolicy: 'gnp',
  StagedNetworkPolicy: 'snp',
  StagedGlobalNetworkPolicy: 'sgnp',
} as const satisfies Readonly<Record<PolicyKind, string>>;

/**
 * Returns a text that is unique to the policy's resource, whatever its tier: `gnp/web`, `np/shop/web`, `pro/web`.
 * Source of the form: Calico, felix/types/policy_id.go.
 */
export function resourceKey({ kind, namespace, name }: PolicyId): string {
  return [shortKinds[kind], ...(namespace === undefined ? [] : [namespace]), name].join('/');
}

/** Returns a text that is unique to the policy's resource and its stage. */
export function policyKey(id: PolicyId): string {
  return id.stage === undefined ? resourceKey(id) : `${resourceKey(id)} ${id.stage}`;
}

/** Identity of a rule, by the place where users find it. Counters and explanations refer to rules so. */
export interface RuleName {
  readonly policy: PolicyId;
  readonly direction: Direction;
  /** From 1. */
  readonly index: number;
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** A type of ICMP messages, of all codes or of one; without a type it matches all. */
export interface IcmpType {
  readonly type?: number | undefined;
  readonly code?: number | undefined;
}

/** Criteria of one side of a packet. Empty lists match all; `ports` and `namedPorts` are one list in two parts. */
export interface PacketEnd {
  readonly nets: readonly Cidr[];
  readonly notNets: readonly Cidr[];
  readonly ports: readonly PortRange[];
  readonly notPorts: readonly PortRange[];
  readonly namedPorts: readonly NamedPort[];
  readonly notNamedPorts: readonly NamedPort[];
  /** The address must be selected. */
  readonly selected: SelectedAddresses | undefined;
  readonly notSelected: SelectedAddresses | undefined;
}

/** The ports that endpoints have by a name; there is a set of (address, protocol, port) for each family. */
export interface NamedPort {
  readonly id: string;
  readonly name: string;
}

/** The addresses that a selector matches; there is a set of them for each family. */
export interface SelectedAddresses {
  readonly id: string;
}

/** What a rule does: `Pass` leaves its tier (of Profiles: its Profile), `Log` continues with the next rule. */
export type RuleAction = 'Allow' | 'Deny' | 'Pass' | 'Log';

/** A rule: a packet must match all of its criteria. */
export interface PacketRule {
  readonly name: RuleName;
  /** The rule's content as text: its counter is kept while that is unchanged, whatever the rule's number. */
  readonly content: string;
  readonly action: RuleAction;
  readonly ipVersion: IpFamily | undefined;
  readonly protocol: number | undefined;
  readonly notProtocol: number | undefined;
  readonly icmp: IcmpType | undefined;
  readonly notIcmp: IcmpType | undefined;
  readonly source: PacketEnd;
  readonly destination: PacketEnd;
}

/** Rules that are evaluated in order, until one decides. */
export interface Policy {
  readonly id: PolicyId;
  readonly ingress: readonly PacketRule[];
  readonly egress: readonly PacketRule[];
  /** Why it denies everything; its rules are ignored then. */
  readonly problem: string | undefined;
}

/** Policies that judge the packets of an endpoint together. */
export interface StackTier {
  readonly name: string;
  /** In order, those that apply to packets of a direction. If there are none but staged ones, the tier is skipped. */
  readonly ingress: readonly PolicyId[];
  readonly egress: readonly PolicyId[];
  /** What happens to packets that no policy of the tier decides: `Pass` is the next tier. */
  readonly defaultAction: 'Deny' | 'Pass';
  /** What the action `Pass` of a rule leaves. */
  readonly passLeaves: 'tier' | 'policy';
}

/**
 * The tiers that judge the packets of an endpoint, in order, Profiles last; packets that none of them decides are
 * denied, except connections to a published port. Endpoints with equal tiers share a stack.
 */
export interface Stack {
  readonly name: string;
  /** Without tiers that have no policies. Staged ones are among the others, in their order. */
  readonly tiers: readonly StackTier[];
}

/** Reports whether a resource is a policy that is only tried out. */
export function isStaged({ kind }: { readonly kind: string }): boolean {
  return stagedKinds.some((staged) => staged === kind);
}

/** Returns the part of a stack that has an effect on packets: a renderer gets no staged policies. */
export function enforcedStack({ name, tiers }: Stack): Stack {
  return { name, tiers: enforcedTiers(tiers) };
}

/** Returns tiers without staged policies, and without the tiers that have no others. */
export function enforcedTiers(tiers: readonly StackTier[]): readonly StackTier[] {
  const enforced = (ids: readonly PolicyId[]) => ids.filter((id) => !isStaged(id));
  return tiers
    .map((tier) => ({ ...tier, ingress: enforced(tier.ingress), egress: enforced(tier.egress) }))
    .filter(({ ingress, egress }) => ingress.length + egress.length > 0);
}

/** An address of an endpoint behind an interface of this host; its stack judges its packets. */
export interface Dispatch {
  readonly family: IpFamily;
  readonly address: Cidr;
  readonly interface: string;
  /** The stack's name. */
  readonly stack: string;
}
