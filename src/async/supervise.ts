import { describe } from '../errors/error.ts';
import { backoffMs, pause } from './deadline.ts';

/** State of one background task. */
export interface WorkReport {
  readonly name: string;
  /** Failures since the start. */
  readonly failures: number;
  /** Failures since the last success. */
  readonly inARow: number;
  /** The last failure, until the next success. */
  readonly last: { readonly at: Date; readonly why: string; readonly waits: boolean } | undefined;
}

/** One failure, for log and metrics. */
export interface WorkFailure {
  readonly name: string;
  readonly error: unknown;
  readonly inARow: number;
  /** Whether it only waits for another program that is unavailable. */
  readonly waits: boolean;
}

/** Common settings of all background tasks of a process. */
export interface Supervision {
  readonly onFailure: (failure: WorkFailure) => void;
  /** Reports whether an error only means that another program is unavailable, which is not a failure of the task. */
  readonly waits?: (error: unknown) => boolean;
}

/** Time without a failure after which a task counts as healthy again, unless it reports a success earlier. */
const calmMs = 300_000;
const firstRestartMs = 100;
const longestRestartMs = 30_000;

/**
 * One background task: a loop, or a handler called by others. It reports its state here; a loop that continues after
 * the failure of a single object reports each failure.
 */
export class Work {
  readonly name: string;
  readonly #supervision: Supervision;
  readonly #maxSilentMs: number;
  #failures = 0;
  #inARow = 0;
  #last: WorkReport['last'];
  #lastAt = 0;
  #turnedAt: number | undefined;

  /** `maxSilentMs`: longest time between `turned` and the next `turned` or `rests`. */
  constructor(
    name: string,
    supervision: Supervision,
    { maxSilentMs = Infinity }: { readonly maxSilentMs?: number } = {},
  ) {
    this.name = name;
    this.#supervision = supervision;
    this.#maxSilentMs = maxSilentMs;
  }

  /** Reports a failure; the task is retried. */
  failed(error: unknown): void {
    this.#calmDown();
    const waits = this.#supervision.waits?.(error) ?? false;
    if (!waits) {
      this.#failures++;
      this.#inARow++;
    }
    this.#lastAt = performance.now();
    this.#last = { at: new Date(), why: describe(error), waits };
    this.#supervision.onFailure({ name: this.name, error, inARow: this.#inARow, waits });
  }

  /** Reports a complete round without a failure. */
  succeeded(): void {
    this.#inARow = 0;
    this.#last = undefined;
  }

  /** Reports progress; from now on a silence of more than its `maxSilentMs` means that it hangs. */
  turned(): void {
    this.#turnedAt = performance.now();
  }

  /** Reports that it is idle, for any time. */
  rests(): void {
    this.#turnedAt = undefined;
  }

  /** Reports whether its last progress is too long ago. */
  hangs(): boolean {
    return this.#turnedAt !== undefined && performance.now() - this.#turnedAt > this.#maxSilentMs;
  }

  /**
   * Calls a handler. An exception is reported and ends nothing; then `recover` updates what the handler missed,
   * because its event will not come again.
   */
  guard(handler: () => void, recover: () => void = () => undefined): void {
    try {
      handler();
    } catch (error) {
      this.failed(error);
      try {
        recover();
      } catch (second) {
        this.failed(second);
      }
    }
  }

  report(): WorkReport {
    this.#calmDown();
    const { name } = this;
    return { name, failures: this.#failures, inARow: this.#inARow, last: this.#last };
  }

  #calmDown(): void {
    if (this.#last !== undefined && performance.now() - this.#lastAt > calmMs) this.succeeded();
  }
}

/**
 * Keeps all background tasks of the process running. A loop that throws or ends is restarted, after a pause that
 * doubles up to half a minute while it keeps failing; each failure is passed to `onFailure`, and `reports` returns the
 * state of all tasks.
 */
export class Supervisor {
  readonly #works = new Map<string, Work>();
  readonly #supervision: Supervision;

  constructor(supervision: Supervision) {
    this.#supervision = supervision;
  }

  /** Returns the task of that name; creates it on first use. */
  work(name: string, options: { readonly maxSilentMs?: number } = {}): Work {
    const known = this.#works.get(name);
    if (known !== undefined) return known;
    const work = new Work(name, this.#supervision, options);
    this.#works.set(name, work);
    return work;
  }

  /**
   * Runs a loop until the signal is aborted, restarting it when it ends; resolves when it has ended after the abort.
   * Never rejects.
   */
  async keep(work: Work, loop: (work: Work) => Promise<void>, signal: AbortSignal): Promise<void> {
    let delays = backoffMs(firstRestartMs, longestRestartMs);
    while (!signal.aborted) {
      const begun = performance.now();
      try {
        await loop(work);
        if (!signal.aborted) work.failed(new Error('it ended by itself'));
      } catch (error) {
        if (!signal.aborted) work.failed(error);
      }
      work.rests();
      if (performance.now() - begun > longestRestartMs) {
        delays = backoffMs(firstRestartMs, longestRestartMs);
      }
      await pause(delays.next().value, signal);
    }
  }

  reports(): readonly WorkReport[] {
    return [...this.#works.values()].map((work) => work.report());
  }

  /** Returns the names of tasks that hang: they make no progress, and did not fail. */
  hanging(): readonly string[] {
    return [...this.#works.values()].filter((work) => work.hangs()).map(({ name }) => name);
  }
}
