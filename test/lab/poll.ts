import { setTimeout as sleep } from 'node:timers/promises';

/** How long a poll waits by default, in milliseconds: long, because it costs a test that passes nothing. */
export const patienceMs = 120_000;

/**
 * Waits before the next look of a poll that began at a time of `Date.now()`: a tenth of the time that it has waited, between
 * 50 ms and 2 s. A look is often a command, and commands one after the other for a minute take the processor from what
 * they wait for.
 */
export async function nextLook(since: number): Promise<void> {
  await sleep(Math.min(Math.max((Date.now() - since) / 10, 50), 2000));
}

/** Polls until the condition is true; returns false if it is not within the time, in milliseconds. */
export async function eventually(
  ask: () => boolean | Promise<boolean>,
  ms = patienceMs,
): Promise<boolean> {
  for (const since = Date.now(); ; await nextLook(since)) {
    if (await ask()) return true;
    if (Date.now() - since > ms) return false;
  }
}

/** Polls until a text matches, and returns it; fails with the last one. */
export async function becomesText(
  read: () => Promise<string>,
  wanted: RegExp,
  ms = patienceMs,
): Promise<string> {
  let last = '';
  const isSo = async () => wanted.test((last = await read()));
  if (!(await eventually(isSo, ms))) throw new Error(`${last} is not ${wanted} after ${ms} ms`);
  return last;
}
