import type { CliContext } from '../context.ts';

/**
 * Runs a command that changes the cluster of this host, while no other one runs. Throws `cluster/command-runs`.
 */
export async function asOnlyCommand(
  context: CliContext,
  command: string,
  act: () => Promise<void>,
): Promise<void> {
  // A native library, which other commands do not need.
  const { lockCommand } = await import('../../cluster/command-lock.ts');
  const lock = lockCommand(context.settings().controlSocket, command);
  try {
    await act();
  } finally {
    lock[Symbol.dispose]();
  }
}
