import { CalicoError, describe, isCalicoError } from '../errors/error.ts';
import { entryKinds, entryTypeOf, type EntryKind, type EntryValue } from '../model/entries.ts';
import type { Compare, Transaction, Write } from './datastore.ts';
import type { Mirror } from './mirror.ts';
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
      const result = await this.#mirror.commit(transaction, AbortSignal.timeout(commitMs));
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

type Cells = { readonly [K in EntryKind]: Map<string, Cell<EntryValue<K>>> };

/** One entry that the round has to do with: what it was, and what it is to be. */
interface Cell<Value> {
  readonly seenRevision: bigint;
  readonly value: Value | undefined;
  readonly isWritten: boolean;
}

/** The mirror's state with the changes of one round on top. */
class RoundDraft implements Draft {
  readonly #mirror: Mirror;
  #cells: Cells = emptyCells();

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
  }

  get touchedKeys(): number {
    return entryKinds.reduce((sum, kind) => sum + this.#cells[kind].size, 0);
  }

  get<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined {
    const cell = this.#cells[kind].get(id);
    if (cell !== undefined && cell.isWritten) return cell.value;
    return this.#mirror.get(kind, id)?.value;
  }

  *entries<K extends EntryKind>(kind: K): Iterable<readonly [id: string, value: EntryValue<K>]> {
    const cells = this.#cells[kind];
    for (const [id, { value }] of this.#mirror.list(kind)) {
      if (cells.get(id)?.isWritten !== true) yield [id, value];
    }
    for (const [id, { value, isWritten }] of cells) {
      if (isWritten && value !== undefined) yield [id, value];
    }
  }

  put<K extends EntryKind>(kind: K, id: string, value: EntryValue<K>): void {
    this.#set(kind, id, { value });
  }

  remove(kind: EntryKind, id: string): void {
    if (this.get(kind, id) !== undefined) this.#set(kind, id, { value: undefined });
  }

  expect(kind: EntryKind, id: string): void {
    if (this.#cells[kind].has(id)) return;
    this.#cells[kind].set(id, {
      seenRevision: this.#seenRevision(kind, id),
      value: undefined,
      isWritten: false,
    });
  }

  transaction(): Transaction {
    const compares: Compare[] = [];
    const writes: Write[] = [];
    for (const kind of entryKinds) this.#collect(kind, compares, writes);
    return { compares, writes };
  }

  save(): Cells {
    const copy = emptyCells();
    for (const kind of entryKinds) copyInto(copy, this.#cells, kind);
    return copy;
  }

  restore(savepoint: Cells): void {
    this.#cells = savepoint;
  }

  #set<K extends EntryKind>(
    kind: K,
    id: string,
    { value }: { readonly value: EntryValue<K> | undefined },
  ): void {
    const seenRevision = this.#cells[kind].get(id)?.seenRevision ?? this.#seenRevision(kind, id);
    this.#cells[kind].set(id, { seenRevision, value, isWritten: true });
  }

  #seenRevision(kind: EntryKind, id: string): bigint {
    return this.#mirror.get(kind, id)?.modRevision ?? 0n;
  }

  #collect<K extends EntryKind>(kind: K, compares: Compare[], writes: Write[]): void {
    for (const [id, { seenRevision, value, isWritten }] of this.#cells[kind]) {
      const key = entryTypeOf[kind].key(id);
      compares.push({ key, modRevision: seenRevision });
      // What the round both made and removed was never there: only that is compared.
      if (!isWritten || (value === undefined && seenRevision === 0n)) continue;
      writes.push({
        key,
        value: value === undefined ? undefined : entryTypeOf[kind].encode(value),
      });
    }
  }
}

function copyInto<K extends EntryKind>(to: Cells, from: Cells, kind: K): void {
  for (const [id, cell] of from[kind]) to[kind].set(id, cell);
}

function emptyCells(): Cells {
  return {
    IPPool: new Map(),
    IPReservation: new Map(),
    Profile: new Map(),
    WorkloadEndpoint: new Map(),
    Node: new Map(),
    ClusterInformation: new Map(),
    Tier: new Map(),
    Block4: new Map(),
    Block6: new Map(),
    Affinity4: new Map(),
    Affinity6: new Map(),
    Handle: new Map(),
    IpamConfig: new Map(),
    DockerNetwork: new Map(),
    DockerPool: new Map(),
  };
}
