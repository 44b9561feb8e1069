import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFileSync } from '../async/replace-file.ts';
import { loadLibc } from '../dataplane/netlink/libc.ts';
import { CalicoError } from '../errors/error.ts';

/** The two ways to run on a host; only one of them serves it at a time, as both write the same kernel. */
export type Way = 'systemd daemon' | 'managed plugin';

// Source: linux/fcntl.h.
const lockExclusive = 2;
const lockNonBlocking = 4;

/**
 * Makes this process the one that serves the host, until it ends in any way: the kernel drops the lock with it.
 * The lock is a file in a folder of `/run` that both ways see. Throws `driver/runs-already`; or `driver/host-is-served`,
 * and leaves word of it for the one that serves.
 */
export function takeHost(folder: string, way: Way): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const file = join(folder, 'serving.lock');
  const fd = openSync(file, 'a');
  if (loadLibc().flock(fd, lockExclusive | lockNonBlocking) < 0) {
    closeSync(fd);
    // Who has just taken the lock may not have written its name yet.
    const written = readFileSync(file, 'utf8').trim();
    const by = /^(systemd daemon|managed plugin) \(process \d+\)$/.test(written)
      ? written
      : 'another process';
    // Started twice by mistake is no contest of two ways: the one that serves is well.
    if (way === 'systemd daemon' && by.startsWith(way)) {
      throw new CalicoError('driver/runs-already', { process: by.replace(/\D/g, '') });
    }
    const error = new CalicoError('driver/host-is-served', { way, by });
    replaceFileSync(refusalFile(folder), `${new Date().toISOString()}: ${error.message}\n`);
    throw error;
  }
  // In its place, as the lock is the file's; it is for reading by people alone.
  writeFileSync(file, `${way} (process ${process.pid})\n`);
  rmSync(refusalFile(folder), { force: true });
}

/** Who else wanted to serve this host and was refused since we do: when, and the sentence. */
export function lastRefusal(folder: string): string | undefined {
  try {
    const text = readFileSync(refusalFile(folder), 'utf8').trim();
    return text === '' ? undefined : text;
  } catch {
    return undefined;
  }
}

function refusalFile(folder: string): string {
  return join(folder, 'refused');
}
