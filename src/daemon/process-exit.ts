import { loadLibc } from '../dataplane/netlink/libc.ts';
import { createLogger } from '../telemetry/log.ts';

/**
 * Ends the process now. Node's own exit waits for the threads of its pool, which may sit in a call of the kernel's
 * that does not return: then sockets listen on, nobody answers, and nobody starts the daemon again.
 */
export function exitImmediately(status: number): never {
  try {
    loadLibc().exit(status);
  } catch {
    // Without the C library there is only the way of a crash.
  }
  return process.abort();
}

/**
 * From now on whatever nobody catches, a promise's failure too, ends the process at once with status 1, after a line
 * with its stack. What it was in the middle of is not known any more; whoever supervises it starts it anew, and all
 * it needs is read from datastore and kernel. A log that cannot be written (a full disk, a reader that is gone) ends
 * nothing.
 */
export function exitOnUncaught(write: (line: string) => void): void {
  for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined);
  process.on('uncaughtException', (error: unknown, origin) => {
    try {
      const log = createLogger({ level: 'error', write, now: () => new Date() });
      const stack = error instanceof Error ? (error.stack ?? String(error)) : String(error);
      log.error('an error that nothing handles ends the daemon; it is to be started again', {
        origin,
        stack,
      });
    } finally {
      exitImmediately(1);
    }
  });
}
