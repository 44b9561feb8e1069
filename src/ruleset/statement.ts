import type { Cidr } from '../ip/cidr.ts';
import type { DropReason } from './drop-reasons.ts';
import { workloadInterfacePrefix, type natSets } from './names.ts';
import type { Direction } from './policy.ts';

/**
 * The rules that this host has besides those of policies, as data: which packets they concern, and what becomes of
 * them. Like `policy.ts` without a word about how a kernel carries it out.
 */
export interface HostRule {
  /** Tells it from the others of its hook or block. */
  readonly name: string;
  /** All must hold. */
  readonly when: readonly Condition[];
  readonly action: Statement;
  /** Why the rule is there, in words for whoever reads a listing of the kernel's. */
  readonly comment?: string;
}

/** Where packets are met, by what is about to happen to them. */
export const hookPurposes = [
  /** Whatever arrives, before anything else sees it. */
  'arrival',
  /** What is for the host itself. */
  'toHost',
  /** What the host forwards, before all other rules; and when these have let it pass. */
  'forward',
  'afterForward',
  /** What the host itself sends. */
  'fromHost',
  /** Where a connection that arrives, or that the host begins, may get another destination. */
  'redirectArriving',
  'redirectFromHost',
  /** Where a connection that leaves may get another source, after all other rules. */
  'leaving',
] as const;

export type HookPurpose = (typeof hookPurposes)[number];

/** Rules that others lead to. */
export const blockNames = [
  /** From a container to its host. */
  'workloadToHost',
  /** Packets that endpoints of this host send, or that are sent to them: which stack judges them. */
  'egress',
  'ingress',
  /** Those of them that are related to a connection. */
  'relatedEgress',
  'relatedIngress',
  /** Whose source becomes the host's where its packets leave the pools. */
  'natOutgoing',
  'forwardingGuard',
] as const;

export type Block = (typeof blockNames)[number];

export type Condition =
  | { readonly kind: 'from'; readonly interfaces: Interfaces }
  | { readonly kind: 'to'; readonly interfaces: Interfaces }
  /** The source address is one that may come from the interface that it came by. */
  | { readonly kind: 'isOwnSource'; readonly negated?: true }
  /** It leaves by an interface that its source address may come from. */
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
  | { readonly kind: 'destinationIsHost' }
  | { readonly kind: 'connection'; readonly is: 'new' | 'established' | 'related' | 'invalid' }
  /** An ICMP error of whom the packet that it quotes was sent to: the other end of the flow. */
  | { readonly kind: 'isErrorOfOtherEnd' }
  /** The connection was begun by a published port that lets in. */
  | { readonly kind: 'cameByPublishedPort' }
  /** The stacks of its endpoints of this host allow it. */
  | { readonly kind: 'isAllowed' };

/** A rule of a stack: what it looks at is in the first packet of a connection, or known of the connection. */
export interface StackRule extends HostRule {
  readonly when: readonly Extract<
    Condition,
    { readonly kind: 'protocol' | 'destinationPort' | 'connection' | 'cameByPublishedPort' }
  >[];
  readonly action: Extract<Statement, { readonly kind: 'policy' | 'allow' | 'drop' }>;
}

/** An interface, or all whose names begin alike. */
export type Interfaces = { readonly name: string } | { readonly prefix: string };

/** Those of containers. */
export const workloads: Interfaces = { prefix: workloadInterfacePrefix };

export type Statement =
  /** It passes, whatever other rules of the host would say. */
  | { readonly kind: 'accept' }
  /** It is dropped, and counted by the reason. */
  | { readonly kind: 'drop'; readonly reason?: DropReason }
  /** No rule behind this one concerns it here: what led here goes on. */
  | { readonly kind: 'return' }
  /** The rules of the block are gone through; what they do not decide goes on here. */
  | { readonly kind: 'block'; readonly block: Block }
  /** The stack of the endpoint that sent it, or that it is sent to, judges it; what belongs to none goes on here. */
  | { readonly kind: 'dispatch'; readonly direction: Direction }
  /** A policy of the stack judges it; what it does not decide goes on here. */
  | { readonly kind: 'policy'; readonly policy: string; readonly direction: Direction }
  /** The stack allows it. */
  | { readonly kind: 'allow' }
  /**
   * A connection to a published port goes to the container. Where its client is `remembered`, the container's stack
   * can tell it from one to the container's own address.
   */
  | { readonly kind: 'publish'; readonly remembered: boolean }
  /** It gets an address of the host as its source. */
  | { readonly kind: 'masquerade' };
