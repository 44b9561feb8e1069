import type { Cidr } from '../ip/cidr.ts';
import type { DropReason } from './drop-reasons.ts';
import { workloadInterfacePrefix, type natSets } from './names.ts';
import type { Direction, StackTier } from './policy.ts';

/**
 * The rules of this host other than policies, as data: criteria and actions. Like `policy.ts`, independent of the
 * kernel's mechanisms.
 */
export interface HostRule {
  /** Unique within its hook or block. */
  readonly name: string;
  /** All must hold. */
  readonly when: readonly Condition[];
  readonly action: Statement;
  /** Why the rule is there, as text in the kernel's rule listing. */
  readonly comment?: string;
}

/** The points in the packet flow that have rules. */
export const hookPurposes = [
  /** All arriving packets, before all other rules. */
  'arrival',
  /** Packets to the host itself. */
  'toHost',
  /** Forwarded packets, before all other rules: most are of a connection, and need no further rule. */
  'firstForward',
  /**
   * For host endpoints: forwarded packets, before the rules of containers; arriving packets, before destination NAT;
   * packets from the host itself, before all other rules.
   */
  'forwardHostEndpoints',
  'beforeDnat',
  'departure',
  /** The other forwarded packets, before all rules of other programs; and after these have allowed them. */
  'forward',
  'afterForward',
  /** Packets from the host itself, for host endpoints. */
  'fromHost',
  /** Destination NAT of connections that arrive, or that the host starts. */
  'redirectArriving',
  'redirectFromHost',
  /** Source NAT of leaving connections, after all other rules. */
  'leaving',
] as const;

export type HookPurpose = (typeof hookPurposes)[number];

/** Rules that other rules jump to. */
export const blockNames = [
  /** From a container to its host. */
  'workloadToHost',
  /** Dispatch of packets from endpoints of this host, or to them, to their stacks. */
  'egress',
  'ingress',
  /** Those of them that are related to a connection. */
  'relatedEgress',
  'relatedIngress',
  /** Endpoints with source NAT for packets that leave the pools. */
  'natOutgoing',
  'forwardingGuard',
  /** UDP packets to the VXLAN port of this host; and those that it forwards to the VXLAN port of a node. */
  'vxlanToHost',
  'forwardedVxlan',
  /** Host endpoints, by interface: packets to the host, from it, and forwarded ones. */
  'fromHostEndpoint',
  'toHostEndpoint',
  'forwardedFromHostEndpoint',
  'forwardedToHostEndpoint',
  /** Arriving packets before destination NAT; all packets before connection tracking. */
  'preDnatFromHostEndpoint',
  'untrackedFromHostEndpoint',
  'untrackedToHostEndpoint',
  /** Ports that host endpoints never close, by direction; and the same without connection tracking. */
  'failsafeInbound',
  'failsafeOutbound',
  'preDnatFailsafeInbound',
  'untrackedFailsafeInbound',
  'untrackedFailsafeOutbound',
] as const;

export type Block = (typeof blockNames)[number];

export type Condition =
  | { readonly kind: 'from'; readonly interfaces: Interfaces; readonly negated?: true }
  | { readonly kind: 'to'; readonly interfaces: Interfaces }
  /** The source address belongs to the incoming interface. */
  | { readonly kind: 'isOwnSource'; readonly negated?: true }
  /** The source address belongs to the outgoing interface. */
  | { readonly kind: 'goesBack' }
  | { readonly kind: 'protocol'; readonly protocol: number; readonly negated?: true }
  | { readonly kind: 'icmpType'; readonly type: number }
  | { readonly kind: 'sourcePort'; readonly port: number }
  | { readonly kind: 'destinationPort'; readonly port: number }
  | { readonly kind: 'source' | 'destination'; readonly net: Cidr }
  | {
      readonly kind: 'sourceIn' | 'destinationIn';
      readonly addresses: keyof typeof natSets;
      readonly negated?: true;
    }
  | { readonly kind: 'destinationIsHost'; readonly negated?: true }
  /** The source, or the destination, is a node with a tunnel of this encapsulation. */
  | {
      readonly kind: 'sourceIsTunnelNode' | 'destinationIsTunnelNode';
      readonly encapsulation: 'vxlan' | 'ipip';
      readonly negated?: true;
    }
  | { readonly kind: 'sourceIsBgpPeer'; readonly negated?: true }
  /** A VXLAN packet of this virtual network; other networks, such as Docker's, may use the same port. */
  | { readonly kind: 'isOfVni'; readonly vni: number }
  | { readonly kind: 'connection'; readonly is: 'new' | 'established' | 'related' | 'invalid' }
  /** An ICMP error from the destination of the packet that it quotes: the other end of the flow. */
  | { readonly kind: 'isErrorOfOtherEnd' }
  /** The connection was started through a published port that allows connections. */
  | { readonly kind: 'cameByPublishedPort' }
  /** Allowed by the stacks of its endpoints on this host. */
  | { readonly kind: 'isAllowed'; readonly negated?: true };

/** A rule of a stack: its criteria are in the first packet of a connection, or known of the connection. */
export interface StackRule extends HostRule {
  readonly when: readonly Extract<
    Condition,
    { readonly kind: 'protocol' | 'destinationPort' | 'connection' | 'cameByPublishedPort' }
  >[];
  readonly action: Extract<Statement, { readonly kind: 'tier' | 'allow' | 'drop' }>;
}

/** An interface, or all with a common name prefix. */
export type Interfaces = { readonly name: string } | { readonly prefix: string };

/** Those of containers. */
export const workloads: Interfaces = { prefix: workloadInterfacePrefix };

export type Statement =
  /** Accepted, regardless of other rules of the host. */
  | { readonly kind: 'accept' }
  /** Dropped, and counted by reason; a denial is rejected instead if this host rejects denied packets. */
  | { readonly kind: 'drop'; readonly reason?: DropReason }
  /** Returns to the calling rule. */
  | { readonly kind: 'return' }
  /** Jumps to the block; undecided packets continue here. */
  | { readonly kind: 'block'; readonly block: Block }
  /** Judged by the stack of the sending, or receiving, endpoint; packets of no endpoint continue here. */
  | { readonly kind: 'dispatch'; readonly direction: Direction }
  /** Judged by a tier of the stack; packets that it passes on continue here. */
  | {
      readonly kind: 'tier';
      readonly tier: StackTier;
      readonly direction: Direction;
      /** Denied packets are those of a host endpoint. */
      readonly isOfHost?: true;
    }
  /** The stack allows it. */
  | { readonly kind: 'allow' }
  /** Neither allowed nor passed on any more: the verdict of rules before this one does not count for those after it. */
  | { readonly kind: 'reconsider' }
  /** Nothing is decided yet: not by us, and what other programs left where we keep verdicts does not count. */
  | { readonly kind: 'begin' }
  /** The kernel does not track the packet's connection. */
  | { readonly kind: 'untrack' }
  /**
   * A connection to a published port goes to the container. If `remembered`, it is marked, so that the container's
   * stack can distinguish it from one to the container's own address.
   */
  | { readonly kind: 'publish'; readonly remembered: boolean }
  /** Source NAT to an address of the host. */
  | { readonly kind: 'masquerade' };
