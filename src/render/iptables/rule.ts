import type { Cidr } from '../../ip/cidr.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import type { DenyAction } from '../../ruleset/drop-reasons.ts';

/**
 * The iptables model as immutable data: tables, chains, hooks, marks and matches with their limits. The renderer
 * creates it from the ruleset, `rule-text.ts` formats it.
 */

/** The kernel tables in which we have chains. */
export type TableName = 'raw' | 'mangle' | 'nat' | 'filter';

/** Mark bits in the upper half of the packet mark, where Calico keeps its own. Source: felix/rules. */
export const markBits = {
  /** A profile or policy accepted the packet. */
  accept: 0x0001_0000,
  /** A rule passed the packet on: the other policies of its tier are skipped. */
  pass: 0x0002_0000,
  /** A rule denied the packet; the rules after it count and drop it. */
  drop: 0x0004_0000,
  /** Every block of a rule with several alternatives matched so far. */
  scratch0: 0x0008_0000,
  /** The current block matched. */
  scratch1: 0x0010_0000,
} as const;

export const allMarks: number = Object.values(markBits).reduce((all, bit) => all | bit, 0);

/** Bits of the connection mark, in the same half. */
export const connectionMarkBits = {
  /** The client connected to a published port; without a matching rule the connection is allowed. */
  published: 0x0020_0000,
} as const;

/** One criterion; all criteria of a rule must match. `negated` inverts one. */
export type Match =
  | { readonly kind: 'inInterface'; readonly name: string; readonly negated?: boolean }
  | { readonly kind: 'outInterface'; readonly name: string }
  | { readonly kind: 'protocol'; readonly protocol: number; readonly negated?: boolean }
  | { readonly kind: 'sourceNet'; readonly net: Cidr; readonly negated?: boolean }
  | { readonly kind: 'destinationNet'; readonly net: Cidr; readonly negated?: boolean }
  /** The address is a member of the set. */
  | { readonly kind: 'sourceSet'; readonly set: string; readonly negated?: boolean }
  | { readonly kind: 'destinationSet'; readonly set: string; readonly negated?: boolean }
  /** The address with protocol and port is a member of the set. */
  | { readonly kind: 'sourcePortSet'; readonly set: string; readonly negated?: boolean }
  | { readonly kind: 'destinationPortSet'; readonly set: string; readonly negated?: boolean }
  /** Source address and incoming interface together are a member. */
  | {
      readonly kind: 'sourceAndInInterfaceSet';
      readonly set: string;
      readonly negated?: boolean;
      /** Match only: the element's packet counter stays unchanged. */
      readonly uncounted?: boolean;
    }
  /**
   * Source address and outgoing interface together are a member: the packet returns to the interface of its source, or
   * leaves from the host's end.
   */
  | {
      readonly kind: 'sourceAndOutInterfaceSet';
      readonly set: string;
      readonly uncounted?: boolean;
    }
  /** Destination address and incoming interface together are a member: the packet arrives for the host's end. */
  | {
      readonly kind: 'destinationAndInInterfaceSet';
      readonly set: string;
      readonly uncounted?: boolean;
    }
  /** Destination address and outgoing interface together are a member. */
  | {
      readonly kind: 'destinationAndOutInterfaceSet';
      readonly set: string;
      readonly negated?: boolean;
      readonly uncounted?: boolean;
    }
  /** At most 15 slots; a range takes two. */
  | { readonly kind: 'sourcePorts'; readonly ports: readonly Ports[]; readonly negated?: boolean }
  | {
      readonly kind: 'destinationPorts';
      readonly ports: readonly Ports[];
      readonly negated?: boolean;
    }
  /** One port of TCP or UDP: cheaper for the kernel than a list. */
  | { readonly kind: 'sourcePort'; readonly protocol: 'tcp' | 'udp'; readonly port: number }
  | { readonly kind: 'destinationPort'; readonly protocol: 'tcp' | 'udp'; readonly port: number }
  | {
      readonly kind: 'icmp';
      readonly family: IpFamily;
      readonly type: number;
      readonly code?: number;
      readonly negated?: boolean;
    }
  | { readonly kind: 'markSet'; readonly bits: number }
  | { readonly kind: 'markClear'; readonly bits: number }
  | { readonly kind: 'connectionMarkSet'; readonly bits: number }
  | { readonly kind: 'connectionState'; readonly states: readonly ConnectionState[] }
  /** An ICMP error from the destination of the quoted packet. */
  | { readonly kind: 'fromQuotedDestination'; readonly family: IpFamily }
  /** A VXLAN packet of this virtual network. */
  | { readonly kind: 'vni'; readonly family: IpFamily; readonly vni: number }
  | { readonly kind: 'sourceIsLocal'; readonly negated?: boolean }
  | { readonly kind: 'destinationIsLocal'; readonly negated?: boolean };

/** One port or an inclusive range. */
export interface Ports {
  readonly first: number;
  readonly last: number;
}

export type ConnectionState = 'NEW' | 'ESTABLISHED' | 'RELATED' | 'INVALID';

export type Action =
  | { readonly kind: 'accept' }
  | { readonly kind: 'drop' }
  /** Drops the packet and answers with the ICMP error *port unreachable*; not in the raw table. */
  | { readonly kind: 'reject' }
  | { readonly kind: 'return' }
  | { readonly kind: 'jump'; readonly chain: string }
  /** Like jump, but the end of the chain does not return. */
  | { readonly kind: 'goto'; readonly chain: string }
  | { readonly kind: 'setMark'; readonly bits: number }
  | { readonly kind: 'clearMark'; readonly bits: number }
  | { readonly kind: 'setConnectionMark'; readonly bits: number }
  | { readonly kind: 'clearConnectionMark'; readonly bits: number }
  | { readonly kind: 'log'; readonly prefix: string }
  /** Destination NAT to this address and port. */
  | { readonly kind: 'destinationNat'; readonly address: IpAddress; readonly port: number }
  | { readonly kind: 'masquerade' }
  | { readonly kind: 'notrack' }
  /** Adds the address with the incoming or outgoing interface to the set, so that its counters count the packet. */
  | { readonly kind: 'countSource'; readonly set: string; readonly interface: 'in' | 'out' }
  | { readonly kind: 'countDestination'; readonly set: string; readonly interface: 'in' | 'out' };

export interface Rule {
  readonly matches: readonly Match[];
  readonly action: Action;
  /** Why the rule exists, as text in rule listings. */
  readonly comment?: string;
}

/** The family that rules are rendered for, and what they do with packets that policy denies. */
export interface RenderOptions {
  readonly family: IpFamily;
  readonly denyAction: DenyAction;
  /** Whether denied packets are those of host endpoints. */
  readonly isOfHost?: boolean;
}

/** A chain of ours. */
export interface Chain {
  readonly name: string;
  readonly rules: readonly Rule[];
  /**
   * Replaces the chain if the kernel refuses a rule of it, so that everything else can be written; absent for chains
   * that every packet passes and that cannot be replaced.
   */
  readonly ifRefused?: Substitute;
}

export interface Substitute {
  /** The chain for people: `Profile web, inbound rules`. */
  readonly what: string;
  readonly rules: readonly Rule[];
}

/** Denies everything instead of a chain that cannot be written. */
export function dropsIfRefused(what: string): Substitute {
  return {
    what,
    rules: [{ matches: [], action: { kind: 'drop' }, comment: 'Refused by the kernel' }],
  };
}

/** Our rules in a built-in chain: before all others, or after all others. */
export interface Hook {
  readonly chain: 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';
  readonly inserted: readonly Rule[];
  readonly appended: readonly Rule[];
}
