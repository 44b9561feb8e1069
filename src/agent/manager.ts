import type { BriefChange, EntryChange } from '../cache/mirror.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import type { Check } from '../telemetry/status-report.ts';
import type { EntryKind } from '../model/kinds/index.ts';

/**
 * The phases of an apply round, in the order that leaves no gap. Nothing is awaited between `additions` and `tables`:
 * the writes are decided in one step, and changes during the writes belong to the next round.
 *
 * Members are removed before routes are added: the previous owner of an address is no longer a member when the address
 * is routed to the next one.
 */
export const phases = [
  /** Reads what others may have changed. */
  'reading',
  /** Sets and members that rules will name. */
  'additions',
  /** Chains and hooks. */
  'tables',
  /** Members and sets that no rule names any more. */
  'removals',
  /** Addresses of links, and routes: from here on packets arrive. */
  'routes',
] as const;

export type Phase = (typeof phases)[number];

/** An event on this host, reported by the kernel or by this program itself. */
export type HostEvent =
  | KernelEvent
  /** This program created the interface of a workload. */
  | { readonly kind: 'linkMade'; readonly name: string; readonly hasIpv6: boolean };

/** A participant of apply rounds: a kernel driver, or a manager, which sets desired state in drivers. */
export interface Participant {
  /** Reports whether there may be something to write. */
  onEvent?(event: HostEvent): boolean;
  /** The actual state is unknown: read it again in the next round. */
  resync?(): void;
  /**
   * Checks what the kernel does not report, and what is due for a retry; reports whether there is something to write.
   * `isInSync` is false until the kernel has been in sync once.
   */
  poll?(state: { readonly isInSync: boolean }): boolean;
  /** The items in which the kernel differs from the desired state. */
  failures?(): readonly ApplyFailure[];
}

/** A kernel driver: keeps desired and actual state, and writes the delta. */
export interface Driver extends Participant {
  /**
   * Writes the part of the delta that belongs to a phase. Items that the kernel rejects are reported by `failures` and
   * do not stop the rest; throws if nothing is known about the whole, and the round is repeated.
   */
  apply(phase: Phase, signal: AbortSignal): Promise<void> | undefined;
}

/** One concern of the agent: receives changes of some kinds of resources, and sets desired kernel state for them. */
export interface Manager<Kind extends EntryKind = EntryKind> extends Participant {
  /** Names the failure if its `apply` throws. */
  readonly name: string;
  readonly kinds: readonly Kind[];
  /** Sets the desired state that needs no resource. */
  start?(): void;
  /** Handles the change of a resource of its kinds; its time must not depend on the number of other resources. */
  onChange?(change: EntryChange<Kind>): void;
  /** What is held in brief, of objects of other hosts and of its kinds, as it is now; as `onChange`. */
  onBrief?(change: BriefChange): void;
  /** Computes in advance, with pauses for other work, what the round will write. */
  prepare?(): Promise<void> | undefined;
  /** Does what has to follow when the drivers are through with a phase. */
  apply?(phase: Phase): void;
  /** Whether what it set in the last round is a step only, and another round must follow. */
  readonly isUnfinished?: boolean;
  /** The daemon is stopping: ends what must not outlast it. */
  stop?(): void;
  /** The checks that `status` shows. */
  checks?(): readonly Check[];
}
