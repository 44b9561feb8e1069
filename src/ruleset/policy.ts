import type { IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';

/**
 * Policy as data, without a word about how a kernel carries it out: what a rule wants of a packet, in lists of any
 * length, and which policies judge the packets of an endpoint. How that becomes chains, marks, sets or maps is the
 * affair of a renderer (`render/`).
 */

/** Seen from the endpoint: `ingress` packets go to it, `egress` packets come from it. */
export type Direction = 'ingress' | 'egress';

export const directions: readonly Direction[] = ['ingress', 'egress'];

/** The tier of Profiles: the last one of each endpoint. */
export const profileTier = 'profiles';

/** Which rule it is, by the place where users find it. Counters, explanations and flow records speak of rules so. */
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

/** A type of ICMP messages, of all codes or of one; without a type it says nothing. */
export interface IcmpType {
  readonly type?: number | undefined;
  readonly code?: number | undefined;
}

/** One side of a packet, as a rule wants it. Empty lists say nothing; `ports` and `namedPorts` are one list in two parts. */
export interface PacketEnd {
  readonly nets: readonly Cidr[];
  readonly notNets: readonly Cidr[];
  readonly ports: readonly PortRange[];
  readonly notPorts: readonly PortRange[];
  readonly namedPorts: readonly NamedPort[];
  readonly notNamedPorts: readonly NamedPort[];
  /** The address must be one of the selected. */
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

/** What a rule does: `Pass` leaves its policy, `Log` goes on with the next rule. */
export type RuleAction = 'Allow' | 'Deny' | 'Pass' | 'Log';

/** A rule: all that it says must hold of a packet. */
export interface PacketRule {
  readonly name: RuleName;
  /** What the rule says, as text: its counter goes on while that stays, whichever number the rule has. */
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

/** Rules that are judged in order, until one decides. */
export interface Policy {
  readonly name: string;
  readonly ingress: readonly PacketRule[];
  readonly egress: readonly PacketRule[];
  /** Why it denies everything; its rules say nothing then. */
  readonly problem: string | undefined;
}

/**
 * What judges the packets of an endpoint: policies in order; what none decides is denied, but for what came to a
 * published port. Endpoints with equal policies have one stack.
 */
export interface Stack {
  readonly name: string;
  readonly policies: readonly string[];
}

/** An address that may come from, or is found behind, an interface of this host; its stack judges its packets. */
export interface Dispatch {
  readonly family: IpFamily;
  readonly address: Cidr;
  readonly interface: string;
  /** The stack's name. */
  readonly stack: string;
}
