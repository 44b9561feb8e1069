import type { BriefChange, EntryChange } from '../cache/mirror.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import type { Check } from '../telemetry/status-report.ts';
import type { EntryKind } from '../model/kinds/index.ts';

/**
 * The phases of a round, in the order that leaves no gap. Between `additions` and `tables` nothing is waited for: what
 * is written is decided in one step, and what changes while it is written is the next round's.
 *
 * Members go before routes come: a former owner of an address is no member any more when the address is routed to
 * the next one.
 */
export const phases = [
  /** What may have been changed by others is read. */
  'reading',
  /** Sets and members that rules are going to name. */
  'additions',
  /** Chains and hooks. */
  'tables',
  /** Members and sets that no rule names any more. */
  'removals',
  /** Addresses of links, and routes: from now on packets come. */
  'routes',
] as const;

export type Phase = (typeof phases)[number];

/** What happens on this host, as the kernel tells it or as we do it ourselves. */
export type HostEvent =
  | KernelEvent
  /** An interface of a workload was made by us. */
  | { readonly kind: 'linkMade'; readonly name: string; readonly hasIpv6: boolean };

/** What takes part in the rounds: a driver of the kernel, or a manager, which tells drivers what is wanted. */
export interface Participant {
  /** Answers whether there may be something to write. */
  onEvent?(event: HostEvent): boolean;
  /** What the kernel has is not known any more: it is read again in the next round. */
  resync?(): void;
  /**
   * Looks for what nobody tells of, and for what is to be tried again; answers whether there is something to write.
   * Before the kernel has once been as wanted, `isInSync` is false.
   */
  poll?(state: { readonly isInSync: boolean }): boolean;
  /** What the kernel does not hold as wanted, by item. */
  failures?(): readonly ApplyFailure[];
}

/** A driver of the kernel: it holds what is wanted and what is there, and writes what differs. */
export interface Driver extends Participant {
  /**
   * Writes what belongs into a phase. Single things that the kernel refuses are told by `failures` and hold nothing
   * up; it throws if nothing can be said of the whole, and the round is made again.
   */
  apply(phase: Phase, signal: AbortSignal): Promise<void> | undefined;
}

/** One concern of the agent: it hears of resources of some kinds, and wants something of the kernel for them. */
export interface Manager<Kind extends EntryKind = EntryKind> extends Participant {
  /** What fails if its `apply` throws. */
  readonly name: string;
  readonly kinds: readonly Kind[];
  /** Wants what is there without any resource. */
  start?(): void;
  /** A resource of its kinds as it was and is; to be taken in a time that does not depend on how many others there are. */
  onChange?(change: EntryChange<Kind>): void;
  /** What is held in brief, of objects of other hosts and of its kinds, as it is now; as `onChange`. */
  onBrief?(change: BriefChange): void;
  /** Does what has to follow when the drivers are through with a phase. */
  apply?(phase: Phase): void;
  /** What `status` says of it. */
  checks?(): readonly Check[];
}
