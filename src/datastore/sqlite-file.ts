import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { CalicoError, describe } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  KeyChange,
  KeyValue,
  Listing,
  RangeCompare,
  Transaction,
} from './datastore.ts';
import { busyMs, migrate } from './sqlite-format.ts';

/**
 * The statements of the SQLite store: `entry` has the present keys, `log` the keys changed last, for watchers,
 * `state` the revision of the last write and the revision up to which the log was truncated.
 */

/** Minimum of revisions in the log; the maximum is twice as many. */
const keptRevisions = 10_000n;

/** SQLite result codes. Source: sqlite3.h. */
const sqliteBusy = 5;

/** One SQLite file, synchronous; errors are SQLite's own. */
export interface SqliteFile {
  /** Returns the values of some keys. */
  read(keys: readonly string[]): Listing;
  list(prefix: string): Listing;
  /** The revision of the last write. */
  revision(): bigint;
  /**
   * Returns the keys below the prefix that changed after a revision, with their present values; `compacted` if the
   * log does not reach back that far.
   */
  changes(prefix: string, afterRevision: bigint): ChangeBatch | 'compacted';
  /** Commits all in one SQLite transaction, each compared separately. Also returns the revision before. */
  commit(transactions: readonly Transaction[]): {
    readonly before: bigint;
    readonly results: readonly CommitResult[];
  };
  /** Reports whether another process has committed since the last call. */
  hasForeignCommit(): boolean;
  /** Reports whether an error means that another process has locked the file. */
  isBusy(error: unknown): boolean;
  close(): void;
}

/** Opens or creates the file; throws `datastore/unavailable` or `datastore/too-new`. */
export async function openSqliteFile(file: string): Promise<SqliteFile> {
  try {
    if (file !== ':memory:') {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      // Created before SQLite opens it, because SQLite would make it world-readable; its companion files get its mode.
      await writeFile(file, '', { flag: 'a', mode: 0o600 });
    }
    return await openPrepared(file);
  } catch (error) {
    if (error instanceof CalicoError) throw error;
    throw new CalicoError(
      'datastore/unavailable',
      { endpoint: file, why: describe(error) },
      { cause: error },
    );
  }
}

async function openPrepared(file: string): Promise<SqliteFile> {
  const database = new DatabaseSync(file, { timeout: busyMs, readBigInts: true });
  try {
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    await migrate(database, file);
    return sqliteFile(database);
  } catch (error) {
    database.close();
    throw error;
  }
}

function sqliteFile(database: DatabaseSync): SqliteFile {
  const select = database.prepare('SELECT value, mod_revision FROM entry WHERE key = ?');
  const selectRange = database.prepare(
    'SELECT key, value, mod_revision FROM entry WHERE key >= ? AND key < ? ORDER BY key',
  );
  const selectNewest = database.prepare(
    'SELECT max(mod_revision) AS newest FROM entry WHERE key >= ? AND key < ?',
  );
  const selectChanges = database.prepare(
    `SELECT max(revision) AS revision, key, value FROM log LEFT JOIN entry USING (key)
     WHERE revision > ? AND key >= ? AND key < ? GROUP BY key ORDER BY key`,
  );
  const selectState = database.prepare('SELECT revision, compacted FROM state');
  const selectDataVersion = database.prepare('PRAGMA data_version');
  const upsert = database.prepare('INSERT OR REPLACE INTO entry VALUES (?, ?, ?)');
  const remove = database.prepare('DELETE FROM entry WHERE key = ?');
  const appendLog = database.prepare('INSERT INTO log VALUES (?, ?)');
  const cutLog = database.prepare('DELETE FROM log WHERE revision <= ?');
  const updateState = database.prepare('UPDATE state SET revision = ?, compacted = ?');
  const commitOrEnd = {
    commit: database.prepare('COMMIT'),
    rollback: database.prepare('ROLLBACK'),
  };
  const reading = { database, begin: database.prepare('BEGIN'), ...commitOrEnd };
  const writing = { database, begin: database.prepare('BEGIN IMMEDIATE'), ...commitOrEnd };
  let dataVersion = integer(selectDataVersion.get()?.['data_version']);

  const get = (key: string): KeyValue | undefined => {
    const row = select.get(key);
    if (row === undefined) return undefined;
    return { key, value: text(row['value']), modRevision: integer(row['mod_revision']) };
  };

  const state = () => {
    const row = selectState.get();
    return { revision: integer(row?.['revision']), compacted: integer(row?.['compacted']) };
  };

  /** Returns the newest write in a range, if it was after its revision. */
  const newestWrite = ({ prefix, afterRevision }: RangeCompare): readonly bigint[] => {
    const newest = selectNewest.get(prefix, endOf(prefix))?.['newest'] ?? null;
    return newest === null || integer(newest) <= afterRevision ? [] : [integer(newest)];
  };

  /** Applies one transaction inside the open SQLite transaction; returns the revision it would have. */
  const apply = (transaction: Transaction, next: bigint): CommitResult => {
    const { compares, ranges = [], writes } = transaction;
    const held = compares.map(({ key }) => get(key)).filter((found) => found !== undefined);
    const current = new Map(held.map((found) => [found.key, found]));
    const holds = compares.every(
      ({ key, modRevision }) => (current.get(key)?.modRevision ?? 0n) === modRevision,
    );
    const [first, ...others] = ranges.flatMap(newestWrite);
    if (!holds || first !== undefined) {
      const newest = others.reduce((a, b) => (a > b ? a : b), first ?? 0n);
      const inRanges = first === undefined ? {} : { newestInRanges: newest };
      return { kind: 'conflict', revision: next - 1n, current, ...inRanges };
    }
    if (writes.length === 0) return { kind: 'committed', revision: next - 1n };
    for (const { key, value } of writes) {
      if (value === undefined) remove.run(key);
      else upsert.run(key, value, next);
      appendLog.run(next, key);
    }
    return { kind: 'committed', revision: next };
  };

  return {
    read: (keys) =>
      inTransaction(reading, () => ({
        revision: state().revision,
        items: keys.flatMap((key) => get(key) ?? []),
      })),
    revision: () => state().revision,
    list: (prefix) =>
      inTransaction(reading, () => ({
        revision: state().revision,
        items: selectRange.all(prefix, endOf(prefix)).map((row) => ({
          key: text(row['key']),
          value: text(row['value']),
          modRevision: integer(row['mod_revision']),
        })),
      })),
    changes: (prefix, afterRevision) =>
      inTransaction(reading, () => {
        const { revision, compacted } = state();
        if (afterRevision < compacted) return 'compacted';
        const rows = selectChanges.all(afterRevision, prefix, endOf(prefix));
        return { revision, changes: rows.map(keyChange) };
      }),
    commit: (transactions) =>
      inTransaction(writing, () => {
        const { revision: first, compacted } = state();
        let revision = first;
        const results = transactions.map((transaction) => {
          const result = apply(transaction, revision + 1n);
          revision = result.revision;
          return result;
        });
        const cut =
          revision - compacted > 2n * keptRevisions ? revision - keptRevisions : compacted;
        if (cut > compacted) cutLog.run(cut);
        if (revision > first) updateState.run(revision, cut);
        return { before: first, results };
      }),
    hasForeignCommit: () => {
      const before = dataVersion;
      dataVersion = integer(selectDataVersion.get()?.['data_version']);
      return dataVersion !== before;
    },
    isBusy: (error) => error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy,
    close: () => database.close(),
  };
}

/** Begin, commit and rollback, prepared because every call of the store needs them. */
interface Bounds {
  readonly database: DatabaseSync;
  readonly begin: StatementSync;
  readonly commit: StatementSync;
  readonly rollback: StatementSync;
}

function inTransaction<T>({ database, begin, commit, rollback }: Bounds, work: () => T): T {
  begin.run();
  try {
    const result = work();
    commit.run();
    return result;
  } catch (error) {
    if (database.isTransaction) rollback.run();
    throw error;
  }
}

function keyChange(row: Record<string, SQLOutputValue>): KeyChange {
  const value = row['value'];
  return {
    key: text(row['key']),
    value: value === null ? undefined : text(value),
    modRevision: integer(row['revision']),
  };
}

/** Returns the first key after all with the prefix, in byte order. */
function endOf(prefix: string): string {
  const last = prefix.codePointAt(prefix.length - 1);
  return last === undefined ? '\u{10ffff}' : prefix.slice(0, -1) + String.fromCodePoint(last + 1);
}

function text(value: SQLOutputValue | undefined): string {
  if (typeof value === 'string') return value;
  throw new Error('a text is missing in the database');
}

function integer(value: SQLOutputValue | undefined): bigint {
  if (typeof value === 'bigint') return value;
  throw new Error('a number is missing in the database');
}
