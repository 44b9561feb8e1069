import { loadLibc } from '../dataplane/netlink/libc.ts';
import { createLogger } from '../telemetry/log.ts';

/**
 * Exits the process immediately. Node's own exit waits for the threads of its pool, which may be blocked in a system
 * call that never returns: then sockets still listen, nothing responds, and the daemon is not restarted.
 */
export function exitImmediately(status: number): never {
  try {
    loadLibc().exit(status);
  } catch {
    // Without the C library only abort is left.
  }
  return process.abort();
}

/**
 * Makes every uncaught error, including rejected promises, exit the process immediately with status 1, after logging
 * its stack. The state of interrupted work is unknown; the supervisor of the process restarts it, and everything is
 * read again from datastore and kernel. A log that cannot be written (full disk, closed pipe) does not end the
 * process.
 */
export function exitOnUncaught(write: (line: string) => void): void {
  for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined);
  process.on('uncaughtException', (error: unknown, origin) => {
    try {
      const log = createLogger({ level: 'error', write, now: () => new Date() });
      const stack = error instanceof Error ? (error.stack ?? String(error)) : String(error);
      log.error('unhandled error; exiting for restart', {
        origin,
        stack,
      });
    } finally {
      exitImmediately(1);
    }
  });
}
