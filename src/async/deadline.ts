import { setTimeout as sleep } from 'node:timers/promises';

/** The given signal, aborted at the latest after so many milliseconds. */
export function withDeadline(signal: AbortSignal, timeoutMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}

/**
 * What an action comes to that has so many milliseconds: then its signal is aborted. Unlike that of
 * `AbortSignal.timeout`, the timer goes with the action, so that what is done often leaves none behind to expire.
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

/** Waits so many milliseconds; answers early (without an error) when the signal is aborted. */
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

/** The promise's outcome, or a rejection when the signal is aborted first; the promise goes on, and may fail unheard. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () =>
      reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
