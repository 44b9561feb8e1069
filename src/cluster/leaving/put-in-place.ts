import { existsSync, renameSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { readClusterFile, writeClusterFile, type ClusterPaths } from '../cluster-file.ts';

/** Files of SQLite beside a datastore, which belong to it and not to one that takes its place. */
const companions = ['-wal', '-shm'];

/** Where the datastore of before a cluster is put when the host leaves it. */
export function putAsideFile(file: string): string {
  return `${file}.before-cluster`;
}

/** Puts the SQLite file of a host aside, if there is one, with what is not yet written into it. Repeatable. */
export function putAside(file: string): void {
  if (!existsSync(file)) return;
  try {
    // The last one that closes it removes its companions.
    const database = new DatabaseSync(file);
    try {
      database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    } finally {
      database.close();
    }
  } catch {
    // It is put aside as it is.
  }
  for (const one of companions) {
    if (existsSync(`${file}${one}`)) renameSync(`${file}${one}`, `${putAsideFile(file)}${one}`);
  }
  renameSync(file, putAsideFile(file));
}

/**
 * Makes a complete SQLite file the datastore of a host that leaves its cluster without it. Until the last step, the host
 * is one of its cluster, as the step `alone` without a file says; repeatable with another file. Nothing of the cluster is
 * deleted.
 */
export function leaveFor(
  paths: ClusterPaths,
  { file, datastoreFile }: { readonly file: string; readonly datastoreFile: string },
): void {
  putAside(datastoreFile);
  const present = readClusterFile(paths);
  if (present !== undefined)
    writeClusterFile(paths, { ...present, state: 'leaving', step: 'alone' });
  renameSync(file, datastoreFile);
}
