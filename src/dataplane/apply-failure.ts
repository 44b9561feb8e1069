import { describe, isCalicoError } from '../errors/error.ts';
import type { Cidr } from '../ip/cidr.ts';

/** One item of the desired state that is not programmed. It is retried automatically. */
export interface ApplyFailure {
  /** The item: `member 10.0.0.0/8 of the address set cali40all-ipam-pools`. */
  readonly what: string;
  readonly why: string;
  /** The network or address concerned, used to find the objects that need it. */
  readonly net?: Cidr;
}

interface Refused {
  readonly failure: ApplyFailure;
  readonly waitMs: number;
  readonly retryAt: number;
}

const firstWaitMs = 1000;
const longestWaitMs = 60_000;

/**
 * What the kernel refused, by item, so that one of them blocks nothing else. Each is retried after a second, then
 * after twice as long each time, at least once a minute.
 */
export class Refusals<Key> {
  readonly #refused = new Map<Key, Refused>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Reports whether it may be tried: it was not refused, or long enough ago. */
  isDue(key: Key): boolean {
    const refused = this.#refused.get(key);
    return refused === undefined || refused.retryAt <= this.#now();
  }

  /** Records a refusal, with the error or a sentence. */
  add(key: Key, failure: Omit<ApplyFailure, 'why'>, thrown: unknown): void {
    const before = this.#refused.get(key)?.waitMs;
    const waitMs = before === undefined ? firstWaitMs : Math.min(before * 2, longestWaitMs);
    const why = whyRefused(thrown);
    this.#refused.set(key, {
      failure: { ...failure, why },
      waitMs,
      retryAt: this.#now() + waitMs,
    });
  }

  /** Makes a change and records its error; returns whether it succeeded. */
  attempt(key: Key, failure: Omit<ApplyFailure, 'why'>, change: () => void): boolean {
    try {
      change();
    } catch (error) {
      this.add(key, failure, error);
      return false;
    }
    this.delete(key);
    return true;
  }

  /** Forgets an item that succeeded or is not desired any longer. */
  delete(key: Key): void {
    this.#refused.delete(key);
  }

  clear(): void {
    this.#refused.clear();
  }

  get(key: Key): ApplyFailure | undefined {
    return this.#refused.get(key)?.failure;
  }

  keys(): Iterable<Key> {
    return this.#refused.keys();
  }

  get size(): number {
    return this.#refused.size;
  }

  first(): ApplyFailure | undefined {
    for (const { failure } of this.#refused.values()) return failure;
    return undefined;
  }

  failures(): readonly ApplyFailure[] {
    return [...this.#refused.values()].map(({ failure }) => failure);
  }

  /** Reports whether an item is due for a retry. */
  get hasDue(): boolean {
    const now = this.#now();
    for (const { retryAt } of this.#refused.values()) if (retryAt <= now) return true;
    return false;
  }
}

/**
 * Calls `act` with all items together and, if that is refused, with ever smaller halves, until the refused items are
 * known. `act` must be idempotent.
 */
export function withEach<Item>(
  items: readonly Item[],
  act: (together: readonly Item[]) => void,
  onRefused: (item: Item, thrown: unknown) => void,
): void {
  if (items.length === 0) return;
  try {
    act(items);
  } catch (error) {
    const [only] = items;
    if (items.length === 1 && only !== undefined) {
      onRefused(only, error);
      return;
    }
    const middle = items.length >> 1;
    withEach(items.slice(0, middle), act, onRefused);
    withEach(items.slice(middle), act, onRefused);
  }
}

/** The change is named already; this is the kernel's error. */
function whyRefused(thrown: unknown): string {
  if (!isCalicoError(thrown, 'kernel/refused')) return describe(thrown);
  const { errno, why } = thrown.detail;
  return `the kernel refused it: ${errno}${why === '' ? '' : ` (${why})`}`;
}
