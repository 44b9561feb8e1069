import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { CalicoError, describe, hasErrorCode } from '../../errors/error.ts';

/** The number that begins a database of etcd, and where. Source: bbolt, db.go and page.go. */
const [magic, magicAt] = [0xed0cdaed, 16];
const sqliteHeader = 'SQLite format 3';
/** etcd's snapshots end with a checksum of 32 bytes, after pages of a multiple of this many. */
const [pageBytes, checksumBytes] = [512, 32];

/**
 * Throws `cluster/not-a-backup` unless a file is a snapshot of etcd as far as can be seen without reading all of it;
 * etcd's own tool then compares its checksum.
 */
export function requireSnapshot(file: string): void {
  const why = problemOf(file);
  if (why !== undefined) throw new CalicoError('cluster/not-a-backup', { file, why });
}

function problemOf(file: string): string | undefined {
  try {
    const stat = statSync(file);
    if (stat.isDirectory()) return 'it is a directory';
    const head = Buffer.alloc(magicAt + 4);
    const fd = openSync(file, 'r');
    try {
      readSync(fd, head);
    } finally {
      closeSync(fd);
    }
    if (head.toString('latin1').startsWith(sqliteHeader)) {
      return 'it is the SQLite file of a single host, which that host uses without a command';
    }
    if (head.readUInt32LE(magicAt) !== magic) return 'it is no snapshot of etcd';
    return stat.size % pageBytes === checksumBytes ? undefined : 'it is incomplete';
  } catch (error) {
    return hasErrorCode(error, 'ENOENT') ? 'no such file' : describe(error);
  }
}
