import { describe } from '../errors/error.ts';
import { backoffMs, pause } from './deadline.ts';

/** How a piece of background work fares. */
export interface WorkReport {
  readonly name: string;
  /** Failures since the start. */
  readonly failures: number;
  /** Failures since it last went well. */
  readonly inARow: number;
  /** The last failure, until it has gone well again. */
  readonly last: { readonly at: Date; readonly why: string; readonly waits: boolean } | undefined;
}

/** One failure, as it is told for log and metrics. */
export interface WorkFailure {
  readonly name: string;
  readonly error: unknown;
  readonly inARow: number;
  /** Whether it only waits for another program that is away. */
  readonly waits: boolean;
}

/** What all work of a process has in common. */
export interface Supervision {
  readonly onFailure: (failure: WorkFailure) => void;
  /** Whether an error says only that another program is away, which is no failure of the work. */
  readonly waits?: (error: unknown) => boolean;
}

/** How long work must go without a failure until it counts as well again, where nothing says so earlier. */
const calmMs = 300_000;
const firstRestartMs = 100;
const longestRestartMs = 30_000;

/**
 * One piece of background work: a loop, or a handler that others call. It tells here how it fares; who writes
 * loops that carry on after a failure of a single object tells of each, and goes on.
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

  /** `maxSilentMs`: how long it may be silent between `turned` and the next `turned` or `rests`. */
  constructor(
    name: string,
    supervision: Supervision,
    { maxSilentMs = Infinity }: { readonly maxSilentMs?: number } = {},
  ) {
    this.name = name;
    this.#supervision = supervision;
    this.#maxSilentMs = maxSilentMs;
  }

  /** It failed, and is tried again. */
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

  /** A whole turn of it went well. */
  succeeded(): void {
    this.#inARow = 0;
    this.#last = undefined;
  }

  /** It goes round; from now on a silence of more than its `maxSilentMs` means that it hangs. */
  turned(): void {
    this.#turnedAt = performance.now();
  }

  /** It waits for something to do, however long that takes. */
  rests(): void {
    this.#turnedAt = undefined;
  }

  /** Whether it should have come round long ago. */
  hangs(): boolean {
    return this.#turnedAt !== undefined && performance.now() - this.#turnedAt > this.#maxSilentMs;
  }

  /**
   * Calls a handler. What it throws is told, and ends nothing; then `mend` brings up to date what the handler did
   * not get to, as its event will not come again.
   */
  guard(handler: () => void, mend: () => void = () => undefined): void {
    try {
      handler();
    } catch (error) {
      this.failed(error);
      try {
        mend();
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
 * Keeps all background work of the process going. A loop that throws or ends is begun again, after a pause that
 * doubles up to half a minute while it goes on failing; each failure is told to `onFailure`, and `reports` says
 * how all of it fares.
 */
export class Supervisor {
  readonly #works = new Map<string, Work>();
  readonly #supervision: Supervision;

  constructor(supervision: Supervision) {
    this.#supervision = supervision;
  }

  /** The work of that name; made when it is asked for first. */
  work(name: string, options: { readonly maxSilentMs?: number } = {}): Work {
    const known = this.#works.get(name);
    if (known !== undefined) return known;
    const work = new Work(name, this.#supervision, options);
    this.#works.set(name, work);
    return work;
  }

  /** Runs a loop until the signal is aborted, again and again; resolves when it has ended after that. Never rejects. */
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

  /** The names of what hangs: it goes round no more, and nothing of it failed. */
  hanging(): readonly string[] {
    return [...this.#works.values()].filter((work) => work.hangs()).map(({ name }) => name);
  }
}
