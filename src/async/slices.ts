import { setImmediate } from 'node:timers/promises';

/** Long work holds the event loop for so long at a time, in milliseconds; what it does at once should be far shorter. */
const sliceMs = 10;

/**
 * Does work on many items with pauses in which everything else has its turn: `act` is given so many of them at once,
 * in their order. Few items are done without a pause. Throws what `act` throws.
 */
export async function inSlices<Item>(
  items: readonly Item[],
  { atOnce, act }: { readonly atOnce: number; readonly act: (some: readonly Item[]) => void },
): Promise<void> {
  let since = performance.now();
  for (let from = 0; from < items.length; from += atOnce) {
    if (performance.now() - since >= sliceMs) {
      await setImmediate();
      since = performance.now();
    }
    act(items.slice(from, from + atOnce));
  }
}
