import { backoffMs } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { EntryChanges } from './mirror.ts';

/** One change. */
type Single = Pick<EntryChanges, 'changes' | 'briefs'>;

type Listener = (changes: EntryChanges) => void;

const firstRetryMs = 1000;
const longestRetryMs = 60_000;

/**
 * Who is told of the mirror's changes. One that throws ends neither the mirror nor what the others are told: it is
 * told of the batch once more, change by change, and of those that it throws at again, until it takes them. So one
 * bad object costs nothing but itself, and no change is lost. A listener must bear being told of a change twice.
 */
export class Listeners {
  readonly #work: Work;
  /** By listener, the changes that it could not take, by what they are of. */
  readonly #owed = new Map<Listener, Map<string, Single>>();
  #latest: Pick<EntryChanges, 'revision' | 'isLive'> = { revision: 0n, isLive: false };
  #delays = backoffMs(firstRetryMs, longestRetryMs);
  #retry: NodeJS.Timeout | undefined;

  constructor(work: Work) {
    this.#work = work;
  }

  /** Answers the way to remove it. */
  add(listener: Listener): () => void {
    this.#owed.set(listener, new Map());
    return () => this.#owed.delete(listener);
  }

  tell(told: EntryChanges): void {
    for (const [listener, owed] of this.#owed) {
      this.#tellOwed(listener, owed);
      if (owed.size > 0 || !this.#takes(listener, told)) this.#tellSingly(listener, owed, told);
    }
    this.#latest = { revision: told.revision, isLive: told.isLive };
    this.#planRetry();
  }

  #tellSingly(listener: Listener, owed: Map<string, Single>, told: EntryChanges): void {
    for (const [name, single] of singlesOf(told)) {
      // Also of what was owed before: this is newer.
      if (this.#takes(listener, { ...told, ...single })) owed.delete(name);
      else owed.set(name, single);
    }
  }

  #tellOwed(listener: Listener, owed: Map<string, Single>): void {
    for (const [name, single] of owed) {
      if (this.#takes(listener, { ...this.#latest, ...single })) owed.delete(name);
    }
  }

  #takes(listener: Listener, told: EntryChanges): boolean {
    try {
      listener(told);
      return true;
    } catch (error) {
      this.#work.failed(error);
      return false;
    }
  }

  #planRetry(): void {
    const isOwing = [...this.#owed.values()].some(({ size }) => size > 0);
    if (!isOwing) {
      if (this.#retry !== undefined) this.#work.succeeded();
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#delays = backoffMs(firstRetryMs, longestRetryMs);
      return;
    }
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      for (const [listener, owed] of this.#owed) this.#tellOwed(listener, owed);
      if ([...this.#owed.values()].every(({ size }) => size === 0)) this.#work.succeeded();
      this.#planRetry();
    }, this.#delays.next().value).unref();
  }
}

/** The changes one by one, with what they are of: whole ones first, as what ceases to be one may then be in brief. */
function* singlesOf({ changes, briefs }: EntryChanges): Generator<readonly [string, Single]> {
  for (const one of changes) yield [`${one.kind} ${one.id}`, { changes: [one], briefs: [] }];
  for (const one of briefs) yield [`brief ${one.kind} ${one.id}`, { changes: [], briefs: [one] }];
}
