import { within } from '../async/deadline.ts';
import { CalicoError, toCalicoError } from '../errors/error.ts';
import type { Transaction } from '../datastore/datastore.ts';
import { expectLock, isLocked, lockedError } from './lock.ts';
import type { Base } from './mirror.ts';
import { Reads } from './reads.ts';
import { GroupDraft } from './group-draft.ts';
import { MustRead, type ReadRequest } from './view.ts';
import { sizeProblem } from '../datastore/transaction-size.ts';
import type { Draft, RetryingWriter, Written } from '../datastore/writer.ts';

/** With so many keys a round is large enough; a plan that comes last may touch some more. */
const enoughKeys = 100;
const maxAttempts = 30;

interface Queued {
  readonly run: (draft: GroupDraft) => Outcome;
  readonly reject: (error: unknown) => void;
  attempts: number;
}

/** Tells the caller that the round is durable. */
type Outcome = (revision: bigint) => void;

/** A plan that is in the round. */
interface Accepted {
  readonly queued: Queued;
  readonly outcome: Outcome;
  /** The draft as it was before. */
  readonly savepoint: number;
}

/**
 * The writer of one process: one transaction is under way at a time; what arrives meanwhile makes the next.
 */
export class GroupWriter implements RetryingWriter {
  readonly #base: Base;
  /** What plans read: the base, and what the round under way had to read besides. */
  readonly view: Reads;
  readonly #readableMs: number;
  #queue: Queued[] = [];
  /** What waits for somebody's plan to be written with, and the end of its patience. */
  readonly #waiting: Queued[] = [];
  #patience: NodeJS.Timeout | undefined;
  #running = false;
  /** When the mirror has the outcome of the last transaction, if it had not in time. */
  #whenHere: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Transactions committed or attempted since the start. */
  transactions = 0;

  /** `readableMs`: how long a round waits until the mirror has what the one before wrote. */
  constructor(base: Base, readableMs = 5000) {
    this.#base = base;
    this.view = new Reads(base);
    this.#readableMs = readableMs;
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
    this.#patience ??= setTimeout(() => this.#enqueue([]), atMostMs);
    return written;
  }

  /** Those who waited come first: they were asked before. */
  #enqueue(queued: readonly Queued[]): void {
    clearTimeout(this.#patience);
    this.#patience = undefined;
    this.#queue.push(...this.#waiting.splice(0), ...queued);
    if (this.#running) return;
    this.#running = true;
    // Callers of the same turn of the event loop share the first round.
    setImmediate(() => void this.#drain());
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) await this.#round();
    this.#running = false;
  }

  async #round(): Promise<void> {
    const accepted: Accepted[] = [];
    try {
      await this.#readable();
      const draft = await this.#plan(accepted);
      await this.#commit(draft, accepted);
    } catch (error) {
      const known = toCalicoError(error);
      for (const { queued } of accepted) queued.reject(known);
    }
  }

  /**
   * Runs plans until a transaction is full. If one wants what is not here, that is read, and all of the round run
   * again; if it cannot be read, those fail that want it.
   */
  async #plan(accepted: Accepted[]): Promise<GroupDraft> {
    for (;;) {
      const draft = new GroupDraft(this.view);
      const round: Queued[] = [];
      const missing = new Map<Queued, readonly ReadRequest[]>();
      while (this.#queue.length > 0 && draft.touchedKeys < enoughKeys) {
        const queued = this.#queue.shift();
        if (queued === undefined) break;
        const savepoint = draft.save();
        const outcome = this.#try(draft, queued);
        if (outcome === undefined) continue;
        round.push(queued);
        if (outcome instanceof MustRead) missing.set(queued, outcome.requests);
        else accepted.push({ queued, outcome, savepoint });
      }
      if (missing.size === 0) return draft;
      accepted.length = 0;
      try {
        await within(readMs, (signal) => this.view.read([...missing.values()].flat(), signal));
        this.#queue.unshift(...round);
      } catch (error) {
        for (const { reject } of missing.keys()) reject(toCalicoError(error));
        this.#queue.unshift(...round.filter((queued) => !missing.has(queued)));
      }
    }
  }

  /** Plans wait until what the plans before them wrote can be read, and all that can be read is of one revision. */
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
        return this.#again(accepted.map(({ queued }) => queued));
      }
      revision = result.revision;
    }
    await this.view.forget();
    for (const { outcome } of accepted) outcome(revision);
  }

  /** The plans that fit one transaction, at least one; the others come first in the next. */
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
   * Runs one plan; what fails is told to its caller, and what wants to be read is answered; neither leaves anything in
   * the draft.
   */
  #try(draft: GroupDraft, queued: Queued): Outcome | MustRead | undefined {
    const savepoint = draft.save();
    const before = draft.writtenKeys;
    try {
      const wasLocked = isLocked(draft);
      const outcome = queued.run(draft);
      if (wasLocked && draft.writtenKeys > before && isLocked(draft)) {
        throw lockedError(this.#base.datastore.endpoint);
      }
      return outcome;
    } catch (error) {
      draft.restore(savepoint);
      if (error instanceof MustRead) return error;
      queued.reject(error);
      return undefined;
    }
  }

  /** Nothing was written, as what has been read is not what there is. */
  #behind(): CalicoError {
    const { endpoint } = this.#base.datastore;
    const why = 'the watch has not reported the write yet';
    return new CalicoError('datastore/unavailable', { endpoint, why });
  }

  /** The mirror has what made the round fail; the same plans come first in the next. */
  #again(round: readonly Queued[]): void {
    const retried = round.filter((queued) => {
      queued.attempts++;
      if (queued.attempts < maxAttempts) return true;
      queued.reject(
        new CalicoError('datastore/contended', { what: 'write', attempts: maxAttempts }),
      );
      return false;
    });
    this.#queue = [...retried, ...this.#queue];
  }
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
  return { queued: { run, reject, attempts: 0 }, written };
}

/** How long a commit may take, in milliseconds. */
const commitMs = 4500;
/** How long reading what plans want may take, which may be all of a kind. */
const readMs = 60_000;
