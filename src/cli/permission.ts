import { CalicoError, describe } from '../errors/error.ts';

/**
 * The error of a command that an ordinary user may not run: settings, datastore and the daemon's socket belong to
 * root. Any other error, and any error of root's, is answered as it is.
 */
export function asPermission(
  error: unknown,
  argv: readonly string[],
  userId: number | undefined = process.getuid?.(),
): unknown {
  const denied = userId === 0 ? undefined : permissionDenied(error);
  if (denied === undefined) return error;
  const command = ['calico-cnm', ...argv].map(quoted).join(' ');
  return new CalicoError('cli/needs-root', { command, why: denied }, { cause: error });
}

/** What the kernel refused, if that is the cause of an error, or the cause of its cause. */
function permissionDenied(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('code' in error && (error.code === 'EACCES' || error.code === 'EPERM')) {
    return 'path' in error && typeof error.path === 'string' ? error.path : describe(error);
  }
  return permissionDenied(error.cause);
}

/** A word as a POSIX shell reads it back. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
