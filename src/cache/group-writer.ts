import { within } from '../async/deadline.ts';
import { CalicoError, toCalicoError } from '../errors/error.ts';
import type { Transaction } from '../datastore/datastore.ts';
import { expectLock, isLocked, lockedError } from './lock.ts';
import type { Mirror } from './mirror.ts';
import { RoundDraft } from './round-draft.ts';
import { excessOf } from '../datastore/transaction-size.ts';
import type { Draft, Writer, Written } from '../datastore/writer.ts';

/** With so many keys a round is large enough; a plan that comes last may touch some more. */
const enoughKeys = 100;
const mostAttempts = 30;

interface Queued {
  readonly run: (draft: RoundDraft) => Outcome;
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
export class GroupWriter implements Writer {
  readonly #mirror: Mirror;
  readonly #readableMs: number;
  #queue: Queued[] = [];
  #running = false;
  /** When the mirror has the outcome of the last transaction, if it had not in time. */
  #whenHere: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Transactions committed or attempted since the start. */
  transactions = 0;

  /** `readableMs`: how long a round waits until the mirror has what the one before wrote. */
  constructor(mirror: Mirror, readableMs = 5000) {
    this.#mirror = mirror;
    this.#readableMs = readableMs;
  }

  write<Result>(plan: (draft: Draft) => Result, signal: AbortSignal): Promise<Written<Result>> {
    return new Promise((resolve, reject) => {
      const run = (draft: RoundDraft): Outcome => {
        signal.throwIfAborted();
        const result = plan(draft);
        return (revision) => resolve({ result, revision });
      };
      this.#queue.push({ run, reject, attempts: 0 });
      if (this.#running) return;
      this.#running = true;
      // Callers of the same turn of the event loop share the first round.
      setImmediate(() => void this.#drain());
    });
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) await this.#round();
    this.#running = false;
  }

  async #round(): Promise<void> {
    const accepted: Accepted[] = [];
    try {
      await this.#readable();
      const draft = new RoundDraft(this.#mirror);
      while (this.#queue.length > 0 && draft.touchedKeys < enoughKeys) {
        const queued = this.#queue.shift();
        if (queued === undefined) break;
        const savepoint = draft.save();
        const outcome = this.#try(draft, queued);
        if (outcome !== undefined) accepted.push({ queued, outcome, savepoint });
      }
      await this.#commit(draft, accepted);
    } catch (error) {
      const known = toCalicoError(error);
      for (const { queued } of accepted) queued.reject(known);
    }
  }

  /** Plans read the mirror: they wait until it has what the plans before them wrote. */
  async #readable(): Promise<void> {
    if (this.#whenHere === undefined) return;
    try {
      await within(this.#readableMs, this.#whenHere);
      this.#whenHere = undefined;
    } catch {
      const error = this.#behind();
      for (const { reject } of this.#queue.splice(0)) reject(error);
    }
  }

  async #commit(draft: RoundDraft, accepted: Accepted[]): Promise<void> {
    const transaction = this.#fitting(draft, accepted);
    let { revision } = this.#mirror;
    if (transaction.writes.length > 0) {
      this.transactions++;
      const result = await within(commitMs, (signal) =>
        this.#mirror.commit(transaction, signal, draft),
      );
      this.#whenHere = result.whenHere;
      if (result.kind === 'conflict') {
        if (result.whenHere !== undefined) throw this.#behind();
        return this.#again(accepted.map(({ queued }) => queued));
      }
      revision = result.revision;
    }
    for (const { outcome } of accepted) outcome(revision);
  }

  /** The plans that fit one transaction, at least one; the others come first in the next. */
  #fitting(draft: RoundDraft, accepted: Accepted[]): Transaction {
    for (;;) {
      expectLock(draft, this.#mirror);
      const transaction = draft.transaction();
      const excess = excessOf(transaction);
      if (excess === undefined) return transaction;
      const later = accepted.splice(Math.ceil(accepted.length / 2));
      const [first] = later;
      if (first === undefined) throw new CalicoError('datastore/too-large', { what: excess });
      draft.restore(first.savepoint);
      this.#queue.unshift(...later.map(({ queued }) => queued));
    }
  }

  /** Runs one plan; what fails is told to its caller and leaves nothing in the draft. */
  #try(draft: RoundDraft, queued: Queued): Outcome | undefined {
    const savepoint = draft.save();
    const before = draft.writtenKeys;
    try {
      const wasLocked = isLocked(draft);
      const outcome = queued.run(draft);
      if (wasLocked && draft.writtenKeys > before && isLocked(draft)) {
        throw lockedError(this.#mirror.datastore.endpoint);
      }
      return outcome;
    } catch (error) {
      draft.restore(savepoint);
      queued.reject(error);
      return undefined;
    }
  }

  /** Nothing was written, as what has been read is not what there is. */
  #behind(): CalicoError {
    const { endpoint } = this.#mirror.datastore;
    const why = 'its watch has not told yet what was written';
    return new CalicoError('datastore/unavailable', { endpoint, why });
  }

  /** The mirror has what made the round fail; the same plans come first in the next. */
  #again(round: readonly Queued[]): void {
    const retried = round.filter((queued) => {
      queued.attempts++;
      if (queued.attempts < mostAttempts) return true;
      queued.reject(
        new CalicoError('datastore/contended', { what: 'write', attempts: mostAttempts }),
      );
      return false;
    });
    this.#queue = [...retried, ...this.#queue];
  }
}

/** How long a commit may take, in milliseconds. */
const commitMs = 4500;
