import { CalicoError, describe, isCalicoError } from '../errors/error.ts';
import type { Mirror } from './mirror.ts';
import { RoundDraft } from './round-draft.ts';
import type { Draft, Writer, Written } from './writer.ts';

/**
 * How many keys one transaction may touch: etcd refuses more than 128 operations unless told otherwise, and
 * each key costs a comparison and a write.
 */
const mostKeys = 100;
const mostAttempts = 30;

interface Queued {
  readonly run: (draft: RoundDraft) => Outcome;
  readonly reject: (error: unknown) => void;
  attempts: number;
}

/** Tells the caller that the round is durable. */
type Outcome = (revision: bigint) => void;

/**
 * The writer of one process: one transaction is under way at a time; what arrives meanwhile makes the next.
 */
export class GroupWriter implements Writer {
  readonly #mirror: Mirror;
  #queue: Queued[] = [];
  #running = false;
  /** Transactions committed or attempted since the start. */
  transactions = 0;
  /** Plans that have been carried out. */
  plans = 0;

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
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
    const accepted: { readonly queued: Queued; readonly outcome: Outcome }[] = [];
    try {
      const draft = new RoundDraft(this.#mirror);
      while (this.#queue.length > 0 && draft.touchedKeys < mostKeys) {
        const queued = this.#queue[0];
        if (queued === undefined) break;
        const outcome = tryPlan(draft, queued);
        if (outcome === 'too-large' && accepted.length > 0) break;
        this.#queue.shift();
        if (typeof outcome === 'function') accepted.push({ queued, outcome });
      }
      await this.#commit(draft, accepted);
    } catch (error) {
      const known = isCalicoError(error) ? error : this.#unavailable(error);
      for (const { queued } of accepted) queued.reject(known);
    }
  }

  async #commit(
    draft: RoundDraft,
    accepted: readonly { readonly queued: Queued; readonly outcome: Outcome }[],
  ): Promise<void> {
    const transaction = draft.transaction();
    let { revision } = this.#mirror;
    if (transaction.writes.length > 0) {
      this.transactions++;
      const result = await this.#mirror.commit(transaction, AbortSignal.timeout(commitMs), draft);
      if (result.kind === 'conflict') return this.#again(accepted.map(({ queued }) => queued));
      revision = result.revision;
    }
    this.plans += accepted.length;
    for (const { outcome } of accepted) outcome(revision);
  }

  #unavailable(cause: unknown): CalicoError {
    const { endpoint } = this.#mirror.datastore;
    return new CalicoError('datastore/unavailable', { endpoint, why: describe(cause) }, { cause });
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

/** How long a commit and its way back into the mirror may take, in milliseconds. */
const commitMs = 4500;

/** Runs one plan; what fails is told to its caller and leaves nothing in the draft. */
function tryPlan(draft: RoundDraft, queued: Queued): Outcome | 'failed' | 'too-large' {
  const savepoint = draft.save();
  const before = draft.touchedKeys;
  try {
    const outcome = queued.run(draft);
    if (draft.touchedKeys > mostKeys && before > 0) {
      draft.restore(savepoint);
      return 'too-large';
    }
    return outcome;
  } catch (error) {
    draft.restore(savepoint);
    queued.reject(error);
    return 'failed';
  }
}
