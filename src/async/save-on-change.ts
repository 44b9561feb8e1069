import { pause } from './deadline.ts';
import type { Work } from './supervise.ts';

/** The usual share of the time that saving may take at most. */
const usualShare = 0.02;

/**
 * Saves a state whenever it has changed, until the signal is aborted, and then once more if there are changes. Nothing
 * is saved and nothing wakes up while nothing changes. The first save is immediate; later ones wait `settleMs`
 * milliseconds, in which more changes are collected. A failed save is reported and retried.
 */
export async function saveOnChange(
  options: {
    /** Whether there is something to save at the start. */
    readonly isChanged: boolean;
    readonly settleMs: number;
    /** The share of the time that saving may take at most: after a slow save, later changes wait longer. */
    readonly maxShare?: number;
    /** Calls the function for every change; returns a function that unsubscribes. */
    readonly subscribe: (changed: () => void) => () => void;
    readonly save: (signal: AbortSignal) => Promise<void>;
    readonly work: Work;
  },
  signal: AbortSignal,
): Promise<void> {
  const { settleMs, maxShare = usualShare, subscribe, save, work } = options;
  let { isChanged } = options;
  let wake = (): void => undefined;
  const unsubscribe = subscribe(() => {
    isChanged = true;
    wake();
  });
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort);
  let settleFor = 0;
  try {
    while (!signal.aborted || isChanged) {
      if (!isChanged) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      await pause(settleFor, signal);
      isChanged = false;
      const started = performance.now();
      try {
        await save(signal);
        work.succeeded();
      } catch (error) {
        work.failed(error);
        // No retry at the end.
        isChanged = !signal.aborted;
      }
      settleFor = Math.max(settleMs, (performance.now() - started) / maxShare);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    unsubscribe();
  }
}
