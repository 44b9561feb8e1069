import { setTimeout as sleep } from 'node:timers/promises';
import { within } from '../async/deadline.ts';
import { CalicoError, isCalicoError, toCalicoError } from '../errors/error.ts';
import type { CommitResult, Transaction } from '../datastore/datastore.ts';
import { expectLock, isLocked, lockedError, lockMark } from './lock.ts';
import type { Base } from './mirror.ts';
import { Reads } from './reads.ts';
import { GroupDraft } from './group-draft.ts';
import { MustRead, type ReadRequest } from './view.ts';
import { sizeProblem } from '../datastore/transaction-size.ts';
import type { Draft, RetryingWriter, Written } from '../datastore/writer.ts';

/** A group takes no more plans once it touches this many keys; its last plan may exceed the number. */
const enoughKeys = 100;
/** A plan that conflicts is tried at least this often, and for at least this long: a busy host loses to faster ones. */
const minAttempts = 30;
const minTriedMs = 10_000;
/** The longest pause before a plan that conflicts is tried again grows by this with each attempt, up to the maximum. */
const pauseStepMs = 2;
const maxPauseMs = 20;

interface Queued {
  readonly run: (draft: GroupDraft) => Outcome;
  readonly reject: (error: unknown) => void;
  attempts: number;
  /** When it first conflicted, by the monotonic clock. */
  conflictedAt: number | undefined;
  /** A transaction with it and other plans was denied, so it gets one of its own. */
  isAlone: boolean;
}

/** Resolves the caller's promise when the group is committed. */
type Outcome = (revision: bigint) => void;

/** A plan that is in the group. */
interface Accepted {
  readonly queued: Queued;
  readonly outcome: Outcome;
  /** The state of the draft before the plan. */
  readonly savepoint: number;
}

/**
 * The writer of one process. One transaction is in progress at a time; plans that arrive meanwhile are committed
 * together in the next (group commit).
 */
export class GroupWriter implements RetryingWriter {
  readonly #base: Base;
  /** The view that plans read: the base, and the entries read from the datastore for the group in progress. */
  readonly view: Reads;
  readonly #readableMs: number;
  readonly #guard: (draft: Draft) => void;
  readonly #isRepair: boolean;
  #queue: Queued[] = [];
  /** Plans that wait to be committed with another plan, and the timer that ends the wait. */
  readonly #waiting: Queued[] = [];
  #waitTimer: NodeJS.Timeout | undefined;
  #running = false;
  /** The group in progress. */
  #committing: Promise<void> = Promise.resolve();
  /** Resolves when plans may run; set while the writer is paused. */
  #resumed: Promise<void> | undefined;
  /** Resolves when the mirror has the outcome of the last transaction; set if the mirror did not have it in time. */
  #whenHere: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Transactions committed or attempted since the start. */
  transactions = 0;

  /**
   * `readableMs`: how long a group waits until the mirror has the writes of the previous group. `guard` is called for
   * every plan that writes; the plan fails if it throws. A repair is also written while the datastore is locked.
   */
  constructor(
    base: Base,
    readableMs = 5000,
    guard: (draft: Draft) => void = () => undefined,
    isRepair = false,
  ) {
    this.#base = base;
    this.view = new Reads(base);
    this.#readableMs = readableMs;
    this.#guard = guard;
    this.#isRepair = isRepair;
  }

  write<Result>(plan: (draft: Draft) => Result, signal: AbortSignal): Promise<Written<Result>> {
    const { queued, written } = queue(plan, signal);
    this.#enqueue([queued]);
    return written;
  }

  writeWithNext<Result>(
    plan: (draft: Draft) => Result,
    signal: AbortSignal,
    atMostMs: number,
  ): Promise<Written<Result>> {
    const { queued, written } = queue(plan, signal);
    this.#waiting.push(queued);
    this.#waitTimer ??= setTimeout(() => this.#enqueue([]), atMostMs);
    return written;
  }

  /**
   * Keeps plans waiting until the function returned is called; resolves when none is in progress any more. One pause at
   * a time.
   */
  async pause(): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resumed = promise;
    await this.#committing;
    return () => {
      this.#resumed = undefined;
      resolve();
    };
  }

  /** Waiting plans come first because they were submitted earlier. */
  #enqueue(queued: readonly Queued[]): void {
    clearTimeout(this.#waitTimer);
    this.#waitTimer = undefined;
    this.#queue.push(...this.#waiting.splice(0), ...queued);
    if (this.#running) return;
    this.#running = true;
    // Callers of the same turn of the event loop share the first group.
    setImmediate(() => void this.#drain());
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      while (this.#resumed !== undefined) await this.#resumed;
      this.#committing = this.#commitGroup();
      await this.#committing;
    }
    this.#running = false;
  }

  async #commitGroup(): Promise<void> {
    const accepted: Accepted[] = [];
    try {
      await this.#readable();
      const draft = await this.#plan(accepted);
      await this.#commit(draft, accepted);
    } catch (error) {
      const known = toCalicoError(error);
      const plans = accepted.map(({ queued }) => queued);
      if (plans.length > 1 && isCalicoError(known, 'datastore/denied')) {
        for (const queued of plans) queued.isAlone = true;
        this.#queue.unshift(...plans);
      } else {
        for (const queued of plans) queued.reject(known);
      }
    }
  }

  /**
   * Runs plans until a transaction is full. If a plan needs entries that are not cached, they are read and all plans of
   * the group run again; if they cannot be read, the plans that need them fail.
   */
  async #plan(accepted: Accepted[]): Promise<GroupDraft> {
    for (;;) {
      const draft = new GroupDraft(this.view);
      const group: Queued[] = [];
      const missing = new Map<Queued, readonly ReadRequest[]>();
      while (draft.touchedKeys < enoughKeys) {
        const [queued] = this.#queue;
        const isAlone = queued?.isAlone === true || group[0]?.isAlone === true;
        if (queued === undefined || (isAlone && group.length > 0)) break;
        this.#queue.shift();
        const savepoint = draft.save();
        const outcome = this.#try(draft, queued);
        if (outcome === undefined) continue;
        group.push(queued);
        if (outcome instanceof MustRead) missing.set(queued, outcome.requests);
        else accepted.push({ queued, outcome, savepoint });
      }
      if (missing.size === 0) return draft;
      accepted.length = 0;
      try {
        await within(readMs, (signal) => this.view.read([...missing.values()].flat(), signal));
        this.#queue.unshift(...group);
      } catch (error) {
        for (const { reject } of missing.keys()) reject(toCalicoError(error));
        this.#queue.unshift(...group.filter((queued) => !missing.has(queued)));
      }
    }
  }

  /** Waits until the writes of earlier plans can be read and the whole view is of one revision. */
  async #readable(): Promise<void> {
    if (this.#whenHere === undefined && this.#base.isWhole) return;
    try {
      await within(this.#readableMs, async (signal) => {
        await this.#base.whole(signal);
        await this.#whenHere?.(signal);
      });
      this.#whenHere = undefined;
    } catch {
      const error = this.#behind();
      for (const { reject } of this.#queue.splice(0)) reject(error);
    }
  }

  async #commit(draft: GroupDraft, accepted: Accepted[]): Promise<void> {
    const transaction = this.#fitting(draft, accepted);
    let { revision } = this.view;
    if (transaction.writes.length > 0) {
      this.transactions++;
      const result = await within(commitMs, (signal) =>
        this.#base.commit(transaction, signal, draft),
      );
      this.#whenHere = result.whenHere;
      if (result.kind === 'conflict') {
        await this.view.forget({ transaction, result });
        if (result.whenHere !== undefined) throw this.#behind();
        return await this.#again(
          accepted.map(({ queued }) => queued),
          conflictOf(transaction, result),
        );
      }
      revision = result.revision;
    }
    await this.view.forget();
    for (const { outcome } of accepted) outcome(revision);
  }

  /** Returns a transaction of as many plans as fit, at least one; the others come first in the next. */
  #fitting(draft: GroupDraft, accepted: Accepted[]): Transaction {
    for (;;) {
      if (accepted.length > 0) expectLock(draft, this.view);
      const transaction = draft.transaction();
      const excess = sizeProblem(transaction);
      if (excess === undefined) return transaction;
      const later = accepted.splice(Math.ceil(accepted.length / 2));
      const [first] = later;
      if (first === undefined) throw new CalicoError('datastore/too-large', { what: excess });
      draft.restore(first.savepoint);
      this.#queue.unshift(...later.map(({ queued }) => queued));
    }
  }

  /**
   * Runs one plan. Rejects its promise if it fails and returns `MustRead` if it needs entries that are not cached; in
   * both cases it leaves nothing in the draft.
   */
  #try(draft: GroupDraft, queued: Queued): Outcome | MustRead | undefined {
    const savepoint = draft.save();
    const before = draft.writtenKeys;
    try {
      const wasLocked = isLocked(draft) && !this.#isRepair;
      const outcome = queued.run(draft);
      if (wasLocked && draft.writtenKeys > before && isLocked(draft)) {
        throw lockedError(this.#base.datastore.endpoint, lockMark(draft));
      }
      if (draft.writtenKeys > before) this.#guard(draft);
      return outcome;
    } catch (error) {
      draft.restore(savepoint);
      if (error instanceof MustRead) return error;
      queued.reject(error);
      return undefined;
    }
  }

  /** Returns the error of a plan that was not written because the view is outdated. */
  #behind(): CalicoError {
    const { endpoint } = this.#base.datastore;
    const why = 'the watch has not reported the write yet';
    return new CalicoError('datastore/unavailable', { endpoint, why });
  }

  /**
   * Queues plans again, ahead of all others, once the mirror has the writes that conflicted with them, after a random
   * pause: writers of one key that try again at the same moment conflict again.
   */
  async #again(group: readonly Queued[], key: string): Promise<void> {
    const now = performance.now();
    const retried = group.filter((queued) => {
      queued.attempts++;
      queued.conflictedAt ??= now;
      if (queued.attempts < minAttempts || now < queued.conflictedAt + minTriedMs) return true;
      const { attempts } = queued;
      queued.reject(new CalicoError('datastore/contended', { what: `write ${key}`, attempts }));
      return false;
    });
    this.#queue = [...retried, ...this.#queue];
    const most = Math.max(0, ...retried.map(({ attempts }) => attempts));
    if (most > 1) await sleep(Math.random() * Math.min(most * pauseStepMs, maxPauseMs));
  }
}

/** Returns a key that another writer has changed, or the prefix that it has written in. */
function conflictOf(
  { compares, ranges }: Transaction,
  { current }: CommitResult & { readonly kind: 'conflict' },
): string {
  const changed = compares.find(
    ({ key, modRevision }) => (current.get(key)?.modRevision ?? 0n) !== modRevision,
  );
  return changed?.key ?? ranges?.[0]?.prefix ?? '';
}

function queue<Result>(
  plan: (draft: Draft) => Result,
  signal: AbortSignal,
): { readonly queued: Queued; readonly written: Promise<Written<Result>> } {
  const { promise: written, resolve, reject } = Promise.withResolvers<Written<Result>>();
  const run = (draft: GroupDraft): Outcome => {
    signal.throwIfAborted();
    const result = plan(draft);
    return (revision) => resolve({ result, revision });
  };
  return { queued: { run, reject, attempts: 0, conflictedAt: undefined, isAlone: false }, written };
}

/** Time limit for a commit, in milliseconds. */
const commitMs = 4500;
/** Time limit for reading the entries that plans need, which may be all of a kind; in milliseconds. */
const readMs = 60_000;
