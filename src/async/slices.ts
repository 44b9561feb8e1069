import { setImmediate } from 'node:timers/promises';

/** How long a slice of work may occupy the event loop, in milliseconds; a single step should be far shorter. */
const sliceMs = 10;

/**
 * Processes many items with pauses for other work: `act` gets a batch of items at a time, in order. A few items are
 * processed without a pause. Throws the errors of `act`.
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
