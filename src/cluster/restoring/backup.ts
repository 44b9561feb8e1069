import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { EtcdOptions } from '../../datastore/etcd-credentials.ts';
import { refusedMs, type DatastoreOptions } from '../../datastore/open-datastore.ts';
import { CalicoError, describe } from '../../errors/error.ts';

/** Size of the checksum at the end of etcd's snapshots, in bytes. */
const checksumBytes = 32;

/**
 * Writes a consistent copy of a datastore to a file that its owner alone can read: a snapshot of etcd, with the checksum
 * that etcd's tools verify, or a SQLite file. The file is complete or absent. Returns its size in bytes. Throws
 * `cluster/backup-failed`.
 */
export async function backUp(options: DatastoreOptions, file: string): Promise<number> {
  const unfinished = `${file}.unfinished`;
  const problem = placeProblem(file);
  if (problem !== undefined) {
    throw new CalicoError('cluster/backup-failed', { file, why: problem });
  }
  try {
    const fd = openSync(unfinished, 'w', 0o600);
    try {
      const bytes =
        options.kind === 'etcd' ? await saveSnapshot(options, fd) : saveFile(options, unfinished);
      fsyncSync(fd);
      renameSync(unfinished, file);
      return bytes;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw new CalicoError(
      'cluster/backup-failed',
      { file, why: describe(error) },
      { cause: error },
    );
  }
}

/** Returns why a file of this name cannot be written, if its name says so. */
function placeProblem(file: string): string | undefined {
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true) {
    return 'it is a directory';
  }
  const folder = dirname(file);
  return existsSync(folder) ? undefined : `the directory ${folder} does not exist`;
}

/** SQLite fills the empty file; its mode stays. */
function saveFile({ file }: { readonly file: string }, target: string): number {
  using database = new DatabaseSync(file, { readOnly: true });
  database.prepare('VACUUM INTO ?').run(target);
  using copy = new DatabaseSync(target, { readOnly: true });
  const row = copy
    .prepare('SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size')
    .get();
  return Number(row?.['bytes'] ?? 0);
}

async function saveSnapshot(options: EtcdOptions, fd: number): Promise<number> {
  const { EtcdAdmin } = await import('../etcd/admin.ts');
  const admin = await EtcdAdmin.open({ ...options, refusedMs });
  try {
    // The member must have everything that was written before; the call is answered by the leader's word.
    await admin.revision();
    const stream = await admin.client.maintenance.snapshot();
    const sum = new SnapshotSum();
    let bytes = 0;
    await new Promise<void>((resolve, reject) => {
      stream.on('data', ({ blob }) => {
        sum.take(blob);
        bytes += blob.length;
        // Synchronous, so that a large database does not pile up in memory.
        writeSync(fd, blob);
      });
      stream.on('error', reject);
      stream.on('end', resolve);
    });
    if (!sum.isRight()) throw new Error('the snapshot is incomplete');
    return bytes;
  } finally {
    admin.close();
  }
}

/** Compares the checksum at the end of a snapshot with its content. Source: etcd, clientv3/snapshot. */
class SnapshotSum {
  readonly #hash: Hash = createHash('sha256');
  #tail = Buffer.alloc(0);

  take(blob: Buffer): void {
    const all = Buffer.concat([this.#tail, blob]);
    const end = Math.max(0, all.length - checksumBytes);
    this.#hash.update(all.subarray(0, end));
    this.#tail = Buffer.from(all.subarray(end));
  }

  isRight(): boolean {
    return this.#tail.length === checksumBytes && this.#hash.digest().equals(this.#tail);
  }
}
