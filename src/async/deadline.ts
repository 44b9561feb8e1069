import { setTimeout as sleep } from 'node:timers/promises';

/** Returns the given signal, aborted after at most that many milliseconds. */
export function withDeadline(signal: AbortSignal, timeoutMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}

/**
 * Runs an action with a time limit in milliseconds, after which its signal is aborted. Unlike `AbortSignal.timeout`,
 * the timer is cleared when the action ends, so frequent actions leave no pending timers.
 */
export async function within<T>(
  timeoutMs: number,
  act: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const late = () => stop.abort(new DOMException(`not within ${timeoutMs} ms`, 'TimeoutError'));
  const timer = setTimeout(late, timeoutMs).unref();
  try {
    return await act(stop.signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits that many milliseconds; returns early (without an error) when the signal is aborted. */
export async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(delayMs, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Delays for repeated attempts: doubling from the first to the longest, in milliseconds. */
export function* backoffMs(firstMs: number, longestMs: number): Generator<number, never> {
  for (let delayMs = firstMs; ; delayMs = Math.min(delayMs * 2, longestMs)) yield delayMs;
}

/**
 * Settles as the promise, or rejects when the signal is aborted first; the promise continues, and its later rejection
 * is ignored.
 */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () =>
      reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
