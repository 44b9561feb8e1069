import { CalicoError, describe } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  Datastore,
  KeyChange,
  Listing,
  Transaction,
} from './datastore.ts';
import { openSqliteFile, type SqliteFile } from './sqlite-file.ts';
import { watchSqliteFile } from './sqlite-notify.ts';

/**
 * The datastore of one host: one SQLite file that the daemon and the commands open at the same time.
 *
 * Transactions requested in one turn of the event loop become one SQLite transaction with one
 * fsync; each is still compared separately and has its own revision. Node's SQLite is synchronous, so a
 * commit blocks the loop for the duration of one fsync.
 */

/** How long another process may lock the file before a write fails, in milliseconds. */
const lockPatienceMs = 3000;
const lockRetryMs = 50;

interface Queued {
  readonly transaction: Transaction;
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Opens the file; creates it (mode 0600) and its folder if they are missing; `:memory:` is a store of this
 * process alone. Throws `datastore/unavailable` or `datastore/too-new`.
 */
export async function openSqliteStore(file: string): Promise<Datastore> {
  const database = await openSqliteFile(file);
  return new SqliteStore(database, file);
}

class SqliteStore implements Datastore {
  readonly endpoint: string;
  readonly #database: SqliteFile;
  readonly #closing = new AbortController();
  readonly #stopWatching: () => void;
  #waiters: (() => void)[] = [];
  #queue: Queued[] = [];
  /** The highest known revision, up to which watchers read. */
  #latest = 0n;
  /** Why the file could not be polled, until it is listed again. */
  #lost: CalicoError | undefined;
  /** Changes of this process's last commit, and the revision before it. */
  #lastOwn: { readonly after: bigint; readonly batch: ChangeBatch } | undefined;

  constructor(database: SqliteFile, file: string) {
    this.#database = database;
    this.endpoint = file;
    this.#stopWatching = watchSqliteFile(file, {
      hasForeignCommit: () => database.hasForeignCommit(),
      onForeignCommit: () => {
        try {
          this.#latest = database.revision();
        } catch (error) {
          this.#lost = this.#unavailable(describe(error), error);
        }
        this.#wakeWatchers();
      },
    });
  }

  async read(keys: readonly string[], signal: AbortSignal): Promise<Listing> {
    signal.throwIfAborted();
    return this.#guard(() => this.#database.read(keys));
  }

  /** The file of one host fits in one page. */
  async *pages(prefix: string, signal: AbortSignal): AsyncGenerator<Listing> {
    signal.throwIfAborted();
    this.#lost = undefined;
    yield this.#guard(() => this.#database.list(prefix));
  }

  commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult> {
    if (signal.aborted || this.#closing.signal.aborted) {
      return Promise.reject(this.#unavailable('closed'));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ transaction, resolve, reject });
      if (this.#queue.length === 1) setImmediate(() => this.#flush(Date.now() + lockPatienceMs));
    });
  }

  async *watch(
    prefix: string,
    afterRevision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<ChangeBatch> {
    const stop = AbortSignal.any([signal, this.#closing.signal]);
    const wake = () => this.#wakeWatchers();
    stop.addEventListener('abort', wake);
    try {
      this.#latest = this.#guard(() => this.#database.revision());
      let seen = afterRevision;
      while (!stop.aborted) {
        if (this.#lost !== undefined) throw this.#lost;
        if (seen >= this.#latest) {
          await new Promise<void>((resolve) => this.#waiters.push(resolve));
          continue;
        }
        const { revision, changes } = this.#changesAfter(prefix, seen);
        seen = revision;
        if (changes.length > 0) yield { revision, changes };
      }
    } finally {
      stop.removeEventListener('abort', wake);
    }
  }

  /** This process's last commit is not read back. */
  #changesAfter(prefix: string, revision: bigint): ChangeBatch {
    const own = this.#lastOwn;
    if (own?.after === revision) {
      const changes = own.batch.changes.filter(({ key }) => key.startsWith(prefix));
      return { revision: own.batch.revision, changes };
    }
    const batch = this.#guard(() => this.#database.changes(prefix, revision));
    if (batch !== 'compacted') return batch;
    throw new CalicoError('datastore/watch-lost', {
      endpoint: this.endpoint,
      why: 'the revision is no longer in its history',
    });
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#stopWatching();
    for (const { reject } of this.#queue.splice(0)) reject(this.#unavailable('closing'));
    this.#database.close();
  }

  #flush(giveUpAt: number): void {
    const queued = this.#queue;
    if (queued.length === 0) return;
    try {
      const transactions = queued.map(({ transaction }) => transaction);
      const { before, results } = this.#database.commit(transactions);
      this.#queue = [];
      const batch = batchOf(transactions, results);
      if (batch !== undefined) {
        this.#lastOwn = { after: before, batch };
        this.#latest = batch.revision;
      }
      for (const [index, { resolve, reject }] of queued.entries()) {
        const result = results[index];
        if (result === undefined) reject(this.#unavailable('a transaction was lost'));
        else resolve(result);
      }
      this.#wakeWatchers();
    } catch (error) {
      if (this.#database.isBusy(error) && Date.now() < giveUpAt) {
        setTimeout(() => this.#flush(giveUpAt), lockRetryMs);
        return;
      }
      this.#queue = [];
      for (const { reject } of queued) reject(this.#unavailable(describe(error), error));
    }
  }

  #wakeWatchers(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  #guard<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw this.#unavailable(describe(error), error);
    }
  }

  #unavailable(why: string, cause?: unknown): CalicoError {
    return new CalicoError('datastore/unavailable', { endpoint: this.endpoint, why }, { cause });
  }
}

/** Returns the changes of committed transactions, each key once; nothing if they wrote nothing. */
function batchOf(
  transactions: readonly Transaction[],
  results: readonly CommitResult[],
): ChangeBatch | undefined {
  const changes = new Map<string, KeyChange>();
  let last = 0n;
  for (const [index, { writes }] of transactions.entries()) {
    const result = results[index];
    if (result?.kind !== 'committed' || writes.length === 0) continue;
    last = result.revision;
    for (const { key, value } of writes) changes.set(key, { key, value, modRevision: last });
  }
  return changes.size === 0 ? undefined : { revision: last, changes: [...changes.values()] };
}
