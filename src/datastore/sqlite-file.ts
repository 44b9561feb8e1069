import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { CalicoError, describe } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  KeyChange,
  KeyValue,
  Listing,
  Transaction,
} from './datastore.ts';

/**
 * The tables and statements of the SQLite store: `entry` holds what is, `log` the last changes for watchers,
 * `state` the revision of the last write and up to where the log has been cut.
 */

/** The `user_version` of the schema below; a file with a higher one was written by a newer program. */
const schemaVersion = 1;

const schema = `
  CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT NOT NULL, mod_revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE log (revision INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,
                    PRIMARY KEY (revision, key)) STRICT, WITHOUT ROWID;
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL) STRICT;
  INSERT INTO state VALUES (1, 1, 0);
  PRAGMA user_version = ${schemaVersion};
`;

/** The log keeps at least so many revisions, and at most twice as many. */
const keptRevisions = 10_000n;

/** SQLite result codes. Source: sqlite3.h. */
const sqliteBusy = 5;

/** One SQLite file, synchronous; errors are SQLite's own. */
export interface SqliteFile {
  get(key: string): KeyValue | undefined;
  list(prefix: string): Listing;
  /** What changed below the prefix after a revision; `compacted` if the log does not reach back that far. */
  changes(prefix: string, afterRevision: bigint): ChangeBatch | 'compacted';
  /** All in one SQLite transaction; each compared by itself. */
  commit(transactions: readonly Transaction[]): readonly CommitResult[];
  /** Whether another process has committed since this was last asked. */
  hasForeignCommit(): boolean;
  /** Whether an error says that another process holds the file. */
  isBusy(error: unknown): boolean;
  close(): void;
}

/** Opens or makes the file; throws `datastore/unavailable` or `datastore/too-new`. */
export async function openSqliteFile(file: string): Promise<SqliteFile> {
  try {
    if (file !== ':memory:') {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      // Made before SQLite opens it, as SQLite would make it readable by all; its companions take its mode.
      await writeFile(file, '', { flag: 'a', mode: 0o600 });
    }
    const database = new DatabaseSync(file, { timeout: 100, readBigInts: true });
    prepareSchema(database, file);
    return sqliteFile(database);
  } catch (error) {
    if (error instanceof CalicoError) throw error;
    throw new CalicoError(
      'datastore/unavailable',
      { endpoint: file, why: describe(error) },
      { cause: error },
    );
  }
}

function prepareSchema(database: DatabaseSync, file: string): void {
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  database.exec('BEGIN IMMEDIATE');
  try {
    const found = Number(integer(database.prepare('PRAGMA user_version').get()?.['user_version']));
    if (found > schemaVersion) {
      throw new CalicoError('datastore/too-new', { endpoint: file, found, known: schemaVersion });
    }
    if (found === 0) database.exec(schema);
    database.exec('COMMIT');
  } catch (error) {
    database.exec('ROLLBACK');
    throw error;
  }
}

function sqliteFile(database: DatabaseSync): SqliteFile {
  const select = database.prepare('SELECT value, mod_revision FROM entry WHERE key = ?');
  const selectRange = database.prepare(
    'SELECT key, value, mod_revision FROM entry WHERE key >= ? AND key < ? ORDER BY key',
  );
  const selectLog = database.prepare(
    'SELECT revision, key, value FROM log WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision, key',
  );
  const selectState = database.prepare('SELECT revision, compacted FROM state');
  const selectDataVersion = database.prepare('PRAGMA data_version');
  const upsert = database.prepare('INSERT OR REPLACE INTO entry VALUES (?, ?, ?)');
  const remove = database.prepare('DELETE FROM entry WHERE key = ?');
  const appendLog = database.prepare('INSERT INTO log VALUES (?, ?, ?)');
  const cutLog = database.prepare('DELETE FROM log WHERE revision <= ?');
  const updateState = database.prepare('UPDATE state SET revision = ?, compacted = ?');
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

  /** Applies one transaction inside the open SQLite transaction; answers the revision it would have. */
  const apply = ({ compares, writes }: Transaction, next: bigint): CommitResult => {
    const held = compares.map(({ key }) => get(key)).filter((found) => found !== undefined);
    const current = new Map(held.map((found) => [found.key, found]));
    const holds = compares.every(
      ({ key, modRevision }) => (current.get(key)?.modRevision ?? 0n) === modRevision,
    );
    if (!holds) return { kind: 'conflict', revision: next - 1n, current };
    if (writes.length === 0) return { kind: 'committed', revision: next - 1n };
    for (const { key, value } of writes) {
      if (value === undefined) remove.run(key);
      else upsert.run(key, value, next);
      appendLog.run(next, key, value ?? null);
    }
    return { kind: 'committed', revision: next };
  };

  return {
    get,
    list: (prefix) =>
      inTransaction(database, 'BEGIN', () => ({
        revision: state().revision,
        items: selectRange.all(prefix, endOf(prefix)).map((row) => ({
          key: text(row['key']),
          value: text(row['value']),
          modRevision: integer(row['mod_revision']),
        })),
      })),
    changes: (prefix, afterRevision) =>
      inTransaction(database, 'BEGIN', () => {
        const { revision, compacted } = state();
        if (afterRevision < compacted) return 'compacted';
        const rows = selectLog.all(afterRevision, revision, prefix, endOf(prefix));
        return { revision, changes: rows.map(keyChange) };
      }),
    commit: (transactions) =>
      inTransaction(database, 'BEGIN IMMEDIATE', () => {
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
        return results;
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

function inTransaction<T>(database: DatabaseSync, begin: string, work: () => T): T {
  database.exec(begin);
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
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

/** The first key after all that begin with the prefix, in the order of bytes. */
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
