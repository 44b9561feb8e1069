import type { ChildProcess } from 'node:child_process';
import { after } from 'node:test';

/** Default time limit for a child to end, and again after it is killed. */
const patienceMs = 60_000;

const running = new Map<ChildProcess, string>();

/**
 * Registers a child process of the tests under a name. A suite ends its children itself; those that still run at the
 * end of its file, because a hook failed, are ended here, and each of them fails the run.
 */
export function tracked<Child extends ChildProcess>(name: string, child: Child): Child {
  running.set(child, name);
  child.once('exit', () => running.delete(child));
  // It could not be started.
  child.once('error', () => running.delete(child));
  return child;
}

/** Waits until a child has ended; kills it, and throws, when that takes longer (in milliseconds). */
export async function ended(name: string, child: ChildProcess, ms = patienceMs): Promise<void> {
  if (await endsWithin(child, ms)) return;
  child.kill('SIGKILL');
  await endsWithin(child, patienceMs);
  throw new Error(`${name} did not end within ${ms / 1000} s and was killed`);
}

async function endsWithin(child: ChildProcess, ms: number): Promise<boolean> {
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  if (hasEnded()) return true;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  child.once('exit', resolve);
  await promise;
  clearTimeout(timer);
  child.off('exit', resolve);
  return hasEnded();
}

async function endAll(): Promise<void> {
  const left = [...running];
  await Promise.all(
    left.map(async ([child, name]) => {
      // The process that holds a machine removes it when its input ends; all others are killed.
      if (child.stdin === null) {
        child.kill('SIGCONT');
        child.kill('SIGKILL');
      } else {
        child.stdin.end();
      }
      await ended(name, child).catch(() => undefined);
    }),
  );
  if (left.length > 0) throw new Error(`left running: ${left.map(([, name]) => name).join(', ')}`);
}

// Benches use the lab without a test runner.
if (process.env['NODE_TEST_CONTEXT'] !== undefined) after(endAll);
