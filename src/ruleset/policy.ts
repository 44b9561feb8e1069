import type { IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';

/**
 * Policy as data, independent of the kernel's mechanisms: the criteria of rules, in lists of any length, and the
 * policies that judge the packets of an endpoint. A renderer (`render/`) turns it into chains, marks, sets or maps.
 */

/** Seen from the endpoint: `ingress` packets go to it, `egress` packets come from it. */
export type Direction = 'ingress' | 'egress';

export const directions: readonly Direction[] = ['ingress', 'egress'];

/** The tier of Profiles: the last one of each endpoint. */
export const profileTier = 'profiles';

/** Identity of a rule, by the place where users find it. Counters and explanations refer to rules so. */
export interface RuleName {
  readonly tier: string;
  /** A Profile's or policy's name. */
  readonly policy: string;
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

/** What a rule does: `Pass` leaves its policy, `Log` continues with the next rule. */
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
  readonly name: string;
  readonly ingress: readonly PacketRule[];
  readonly egress: readonly PacketRule[];
  /** Why it denies everything; its rules are ignored then. */
  readonly problem: string | undefined;
}

/**
 * The ordered policies that judge the packets of an endpoint; packets without a matching rule are denied, except
 * connections to a published port. Endpoints with equal policies share a stack.
 */
export interface Stack {
  readonly name: string;
  readonly policies: readonly string[];
}

/** An address of an endpoint behind an interface of this host; its stack judges its packets. */
export interface Dispatch {
  readonly family: IpFamily;
  readonly address: Cidr;
  readonly interface: string;
  /** The stack's name. */
  readonly stack: string;
}
