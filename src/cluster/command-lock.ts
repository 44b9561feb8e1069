import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadLibc } from '../dataplane/netlink/libc.ts';
import { CalicoError, hasErrorCode } from '../errors/error.ts';

/**
 * The lock of the commands that change the cluster of this host: one at a time, and one that still runs is told apart
 * from one that was interrupted. The kernel drops it when the process ends.
 */

// Source: linux/fcntl.h.
const lockExclusive = 2;
const lockNonBlocking = 4;

function lockFile(controlSocket: string): string {
  return join(dirname(controlSocket), 'cluster-command.lock');
}

/** Locks until it is disposed of, at the latest until the process ends. Throws `cluster/command-runs`. */
export function lockCommand(controlSocket: string, command: string): Disposable {
  const file = lockFile(controlSocket);
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  const fd = openSync(file, 'a');
  if (loadLibc().flock(fd, lockExclusive | lockNonBlocking) < 0) {
    closeSync(fd);
    throw new CalicoError('cluster/command-runs', { command: textOf(file) });
  }
  writeFileSync(file, `${command} (process ${process.pid})\n`);
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/** Returns the command that runs now, with its process; `undefined` if none does. */
export function runningCommand(controlSocket: string): string | undefined {
  const file = lockFile(controlSocket);
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT', 'EACCES')) return undefined;
    throw error;
  }
  try {
    const isFree = loadLibc().flock(fd, lockExclusive | lockNonBlocking) >= 0;
    return isFree ? undefined : textOf(file);
  } finally {
    closeSync(fd);
  }
}

function textOf(file: string): string {
  const written = readFileSync(file, 'utf8').trim();
  return /^[\w-]+( [\w-]+)* \(process \d+\)$/.test(written) ? written : 'another command';
}
