import type { DropReason } from './drop-reasons.ts';
import type { RuleName } from './policy.ts';

/** What the packets were dropped by. */
export type DroppedBy =
  | { readonly kind: 'rule'; readonly rule: RuleName }
  | { readonly kind: 'reason'; readonly reason: DropReason }
  /** Whatever could not be told apart; `text` says why not. */
  | { readonly kind: 'rest'; readonly text: string };

/** How much was dropped of the packets of an interface. */
export interface DropCount {
  readonly by: DroppedBy;
  /** `undefined` where the counter is not of one interface. */
  readonly interface: string | undefined;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** Counters that cannot be read or looked after. */
export interface CounterProblem {
  /** `the address set cali40d:source`. */
  readonly what: string;
  readonly why: string;
  /** The command that begins anew. */
  readonly command: string;
}

/** The counters of what is dropped, by rule and reason; how the kernel counts is the affair of who renders the rules. */
export interface DropCounters {
  /** What was counted so far, in the order in which it is shown; what cannot be read is missing, and told as a problem. */
  counts(): readonly DropCount[];
  /**
   * Looks after those that have changed, or, to `sweep`, all of them: counters of interfaces that are gone go, too
   * many of one address become one number. Answers whether there is something to write.
   */
  tend(options: {
    readonly sweep: boolean;
    readonly hasInterface: (name: string) => boolean;
  }): boolean;
  problems(): readonly CounterProblem[];
}
