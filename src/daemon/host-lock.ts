import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFileSync } from '../async/replace-file.ts';
import { loadLibc } from '../dataplane/netlink/libc.ts';
import { CalicoError } from '../errors/error.ts';

/** The two forms of installation; only one of them runs on a host, because both program the same kernel. */
export type Installation = 'systemd daemon' | 'managed plugin';

// Source: linux/fcntl.h.
const lockExclusive = 2;
const lockNonBlocking = 4;

/**
 * Locks the host for this process until it exits; the kernel then drops the lock. The lock is a file in a folder of
 * `/run` that both installations see. Throws `driver/runs-already`, or `driver/host-is-served` after recording the
 * conflict for `lastConflict`.
 */
export function lockHost(folder: string, installation: Installation): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const file = join(folder, 'serving.lock');
  const fd = openSync(file, 'a');
  if (loadLibc().flock(fd, lockExclusive | lockNonBlocking) < 0) {
    closeSync(fd);
    // A process that has just taken the lock may not have written its name yet.
    const written = readFileSync(file, 'utf8').trim();
    const by = /^(systemd daemon|managed plugin) \(process \d+\)$/.test(written)
      ? written
      : 'another process';
    // The daemon was started twice by mistake: not a duplicate installation.
    if (installation === 'systemd daemon' && by.startsWith(installation)) {
      throw new CalicoError('driver/runs-already', { process: by.replace(/\D/g, '') });
    }
    const error = new CalicoError('driver/host-is-served', { way: installation, by });
    replaceFileSync(conflictFile(folder), `${new Date().toISOString()}: ${error.message}\n`);
    throw error;
  }
  // Written in place, because the lock belongs to this file. The content is for people.
  writeFileSync(file, `${installation} (process ${process.pid})\n`);
  rmSync(conflictFile(folder), { force: true });
}

/** Returns the last rejected start of another installation since this one runs: time and message. */
export function lastConflict(folder: string): string | undefined {
  try {
    const text = readFileSync(conflictFile(folder), 'utf8').trim();
    return text === '' ? undefined : text;
  } catch {
    return undefined;
  }
}

function conflictFile(folder: string): string {
  return join(folder, 'refused');
}
