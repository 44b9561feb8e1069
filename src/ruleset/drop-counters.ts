import type { DropReason } from './drop-reasons.ts';
import type { RuleName } from './policy.ts';

/** Why the packets were dropped. */
export type DroppedBy =
  | { readonly kind: 'rule'; readonly rule: RuleName }
  | { readonly kind: 'reason'; readonly reason: DropReason }
  /** Packets counted together; `text` says why. */
  | { readonly kind: 'rest'; readonly text: string };

/** The dropped packets of an interface. */
export interface DropCount {
  readonly by: DroppedBy;
  /** `undefined` if the counter is not of one interface. */
  readonly interface: string | undefined;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** Counters that cannot be read or maintained. */
export interface CounterProblem {
  /** `the address set cali40d:source`. */
  readonly what: string;
  readonly why: string;
  /** The command that resets them. */
  readonly command: string;
}

/** Counters of dropped packets, by rule and reason; the renderer decides how the kernel counts. */
export interface DropCounters {
  /** Returns the counts in display order; counters that cannot be read are missing, and reported as problems. */
  counts(): readonly DropCount[];
  /**
   * Maintains the changed counters, or with `sweep` all: removes those of removed interfaces, and merges those of an
   * address with too many. Returns whether there is something to write.
   */
  tend(options: {
    readonly sweep: boolean;
    readonly hasInterface: (name: string) => boolean;
  }): boolean;
  problems(): readonly CounterProblem[];
}
