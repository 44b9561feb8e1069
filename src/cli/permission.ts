import { CalicoError, describe, hasErrorCode } from '../errors/error.ts';

/**
 * Returns `cli/needs-root` for an error caused by missing permissions: settings, datastore and the daemon's socket
 * belong to root. Returns any other error, and any error of root, unchanged.
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

/** Returns the path or operation that was denied, if that is the cause of an error at any depth. */
function permissionDenied(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (hasErrorCode(error, 'EACCES', 'EPERM')) {
    return 'path' in error && typeof error.path === 'string' ? error.path : describe(error);
  }
  return permissionDenied(error.cause);
}

/** Quotes an argument for a POSIX shell. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
