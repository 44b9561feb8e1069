import { existsSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { CalicoError, describe } from '../errors/error.ts';

/**
 * The format of the SQLite file, and the steps from each format to the next. The file's `user_version` is the
 * number of its format; 0 is an empty file. A released step is never changed; a new step is added.
 */

export const sqliteSteps: readonly string[] = [
  // 1: `entry` has the present keys, `log` the last changes, `state` the last revision and the start of the log.
  `CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT NOT NULL, mod_revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE log (revision INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,
                     PRIMARY KEY (revision, key)) STRICT, WITHOUT ROWID;
   CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL) STRICT;
   INSERT INTO state VALUES (1, 1, 0);`,
  // 2: the log has keys only; their values are in `entry`, so each value is written once.
  `ALTER TABLE log DROP COLUMN value;`,
];

/** The format that this program reads and writes. */
export const sqliteFormat = sqliteSteps.length;

/** How long SQLite waits for another writing process, in milliseconds. */
export const busyMs = 100;

/** How long another process may take to migrate the file, in milliseconds. */
const migrationPatienceMs = 10_000;

/**
 * Brings an open file to the present format, in one transaction. An older file is first copied
 * to `<file>.backup-<its format>`, which is kept. Throws `datastore/too-new` for a file of a newer program;
 * other errors are SQLite's and the file system's own, and leave the file as it was.
 */
export async function migrate(database: DatabaseSync, file: string): Promise<void> {
  if (formatOf(database) === sqliteFormat) return;
  // From here on no other process writes; readers see the old file. Another process may have migrated it already.
  database.exec(`PRAGMA busy_timeout = ${migrationPatienceMs}; BEGIN IMMEDIATE`);
  try {
    const found = formatOf(database);
    if (found > sqliteFormat) {
      throw new CalicoError('datastore/too-new', { endpoint: file, found, known: sqliteFormat });
    }
    if (found > 0 && found < sqliteFormat) await backUp(file, found);
    for (const step of sqliteSteps.slice(found)) database.exec(step);
    database.exec(`PRAGMA user_version = ${sqliteFormat}`);
    database.exec('COMMIT');
  } catch (error) {
    database.exec('ROLLBACK');
    throw error;
  } finally {
    database.exec(`PRAGMA busy_timeout = ${busyMs}`);
  }
}

/**
 * Throws `datastore/too-new` for a file of a newer program, and `datastore/unavailable` for one that cannot be read;
 * the file is only read, and need not exist.
 */
export function refuseNewer(file: string): void {
  if (!existsSync(file)) return;
  const found = formatOfFile(file);
  if (found > sqliteFormat) {
    throw new CalicoError('datastore/too-new', { endpoint: file, found, known: sqliteFormat });
  }
}

function formatOfFile(file: string): number {
  try {
    using database = new DatabaseSync(file, { readOnly: true, timeout: busyMs });
    return formatOf(database);
  } catch (error) {
    const why = describe(error);
    throw new CalicoError('datastore/unavailable', { endpoint: file, why }, { cause: error });
  }
}

/** Writes a copy of the file before a migration; readable by its owner alone, complete or absent. */
async function backUp(file: string, format: number): Promise<void> {
  const backup = `${file}.backup-${format}`;
  const unfinished = `${backup}.unfinished`;
  await rm(unfinished, { force: true });
  const made = await open(unfinished, 'wx', 0o600);
  const source = new DatabaseSync(file, { readOnly: true });
  try {
    source.prepare('VACUUM INTO ?').run(unfinished);
    await made.sync();
  } finally {
    source.close();
    await made.close();
  }
  await rename(unfinished, backup);
}

function formatOf(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0);
}
