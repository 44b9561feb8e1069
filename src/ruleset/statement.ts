import type { Cidr } from '../ip/cidr.ts';
import type { DropReason } from './drop-reasons.ts';
import { workloadInterfacePrefix, type natSets } from './names.ts';
import type { Direction } from './policy.ts';

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
  /** Forwarded packets, before all other rules; and after these have allowed them. */
  'forward',
  'afterForward',
  /** Packets from the host itself. */
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
  /** UDP packets to the VXLAN port of this host. */
  'vxlanToHost',
] as const;

export type Block = (typeof blockNames)[number];

export type Condition =
  | { readonly kind: 'from'; readonly interfaces: Interfaces }
  | { readonly kind: 'to'; readonly interfaces: Interfaces }
  /** The source address belongs to the incoming interface. */
  | { readonly kind: 'isOwnSource'; readonly negated?: true }
  /** The source address belongs to the outgoing interface. */
  | { readonly kind: 'goesBack' }
  | { readonly kind: 'protocol'; readonly protocol: number; readonly negated?: true }
  | { readonly kind: 'icmpType'; readonly type: number }
  | { readonly kind: 'destinationPort'; readonly port: number }
  | { readonly kind: 'source' | 'destination'; readonly net: Cidr }
  | {
      readonly kind: 'sourceIn' | 'destinationIn';
      readonly addresses: keyof typeof natSets;
      readonly negated?: true;
    }
  | { readonly kind: 'destinationIsHost'; readonly negated?: true }
  /** The source, or the destination, is a node with a VXLAN tunnel. */
  | { readonly kind: 'sourceIsVxlanNode' | 'destinationIsVxlanNode'; readonly negated?: true }
  /** A VXLAN packet of this virtual network; other networks, such as Docker's, may use the same port. */
  | { readonly kind: 'isOfVni'; readonly vni: number }
  | { readonly kind: 'connection'; readonly is: 'new' | 'established' | 'related' | 'invalid' }
  /** An ICMP error from the destination of the packet that it quotes: the other end of the flow. */
  | { readonly kind: 'isErrorOfOtherEnd' }
  /** The connection was started through a published port that allows connections. */
  | { readonly kind: 'cameByPublishedPort' }
  /** Allowed by the stacks of its endpoints on this host. */
  | { readonly kind: 'isAllowed' };

/** A rule of a stack: its criteria are in the first packet of a connection, or known of the connection. */
export interface StackRule extends HostRule {
  readonly when: readonly Extract<
    Condition,
    { readonly kind: 'protocol' | 'destinationPort' | 'connection' | 'cameByPublishedPort' }
  >[];
  readonly action: Extract<Statement, { readonly kind: 'policy' | 'allow' | 'drop' }>;
}

/** An interface, or all with a common name prefix. */
export type Interfaces = { readonly name: string } | { readonly prefix: string };

/** Those of containers. */
export const workloads: Interfaces = { prefix: workloadInterfacePrefix };

export type Statement =
  /** Accepted, regardless of other rules of the host. */
  | { readonly kind: 'accept' }
  /** Dropped, and counted by reason. */
  | { readonly kind: 'drop'; readonly reason?: DropReason }
  /** Returns to the calling rule. */
  | { readonly kind: 'return' }
  /** Jumps to the block; undecided packets continue here. */
  | { readonly kind: 'block'; readonly block: Block }
  /** Judged by the stack of the sending, or receiving, endpoint; packets of no endpoint continue here. */
  | { readonly kind: 'dispatch'; readonly direction: Direction }
  /** Judged by a policy of the stack; undecided packets continue here. */
  | { readonly kind: 'policy'; readonly policy: string; readonly direction: Direction }
  /** The stack allows it. */
  | { readonly kind: 'allow' }
  /**
   * A connection to a published port goes to the container. If `remembered`, it is marked, so that the container's
   * stack can distinguish it from one to the container's own address.
   */
  | { readonly kind: 'publish'; readonly remembered: boolean }
  /** Source NAT to an address of the host. */
  | { readonly kind: 'masquerade' };
