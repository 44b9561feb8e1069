import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { moveMarkOf, type MoveMark } from '../../model/kinds/cluster-information.ts';
import { lockKey } from './move-plan.ts';

/** How long SQLite waits for another process, in milliseconds. */
const busyMs = 1000;

/**
 * Returns the mark of a move in the SQLite file of this host; `undefined` without one, without the file, or if it cannot
 * be read, which whoever opens it reports. The file is only read.
 */
export function fileMark(file: string): MoveMark | undefined {
  if (!existsSync(file)) return undefined;
  try {
    using database = new DatabaseSync(file, { readOnly: true, timeout: busyMs });
    const row = database.prepare('SELECT value FROM entry WHERE key = ?').get(lockKey);
    const text = row?.['value'];
    if (typeof text !== 'string') return undefined;
    return moveMarkOf(entryTypeOf.ClusterInformation.decode(lockKey, text));
  } catch {
    return undefined;
  }
}
