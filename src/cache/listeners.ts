import { backoffMs } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { EntryChanges } from './mirror.ts';

/** A single change. */
type Single = Pick<EntryChanges, 'changes' | 'briefs'>;

type Listener = (changes: EntryChanges) => void;

const firstRetryMs = 1000;
const longestRetryMs = 60_000;

/**
 * Notifies listeners of the mirror's changes. A listener that throws stops neither the mirror nor the other listeners:
 * it is notified of the batch again, change by change, and of the changes that still fail until they succeed. So one
 * bad object affects only itself, and no change is lost. A listener must accept being notified of a change twice.
 */
export class Listeners {
  readonly #work: Work;
  /** By listener, the changes whose notification failed, by entry. */
  readonly #failed = new Map<Listener, Map<string, Single>>();
  #latest: Pick<EntryChanges, 'revision' | 'isLive'> = { revision: 0n, isLive: false };
  #delays = backoffMs(firstRetryMs, longestRetryMs);
  #retry: NodeJS.Timeout | undefined;

  constructor(work: Work) {
    this.#work = work;
  }

  /** Returns a function that removes the listener. */
  add(listener: Listener): () => void {
    this.#failed.set(listener, new Map());
    return () => this.#failed.delete(listener);
  }

  notify(batch: EntryChanges): void {
    for (const [listener, failed] of this.#failed) {
      this.#retryFailed(listener, failed);
      if (failed.size > 0 || !this.#accepts(listener, batch)) {
        this.#notifySingly(listener, failed, batch);
      }
    }
    this.#latest = { revision: batch.revision, isLive: batch.isLive };
    this.#planRetry();
  }

  #notifySingly(listener: Listener, failed: Map<string, Single>, batch: EntryChanges): void {
    for (const [name, single] of singlesOf(batch)) {
      // Replaces an earlier change of the same entry that failed: this one is newer.
      if (this.#accepts(listener, { ...batch, ...single })) failed.delete(name);
      else failed.set(name, single);
    }
  }

  #retryFailed(listener: Listener, failed: Map<string, Single>): void {
    for (const [name, single] of failed) {
      if (this.#accepts(listener, { ...this.#latest, ...single })) failed.delete(name);
    }
  }

  #accepts(listener: Listener, batch: EntryChanges): boolean {
    try {
      listener(batch);
      return true;
    } catch (error) {
      this.#work.failed(error);
      return false;
    }
  }

  #planRetry(): void {
    const hasFailed = [...this.#failed.values()].some(({ size }) => size > 0);
    if (!hasFailed) {
      if (this.#retry !== undefined) this.#work.succeeded();
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#delays = backoffMs(firstRetryMs, longestRetryMs);
      return;
    }
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      for (const [listener, failed] of this.#failed) this.#retryFailed(listener, failed);
      if ([...this.#failed.values()].every(({ size }) => size === 0)) this.#work.succeeded();
      this.#planRetry();
    }, this.#delays.next().value).unref();
  }
}

/**
 * Yields the changes one by one with the name of the entry; whole ones first, because such an entry may now be cached
 * in brief.
 */
function* singlesOf({ changes, briefs }: EntryChanges): Generator<readonly [string, Single]> {
  for (const one of changes) yield [`${one.kind} ${one.id}`, { changes: [one], briefs: [] }];
  for (const one of briefs) yield [`brief ${one.kind} ${one.id}`, { changes: [], briefs: [one] }];
}
