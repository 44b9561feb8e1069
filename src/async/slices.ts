import { setImmediate } from 'node:timers/promises';

/** How long a slice of work may occupy the event loop, in milliseconds; a single step should be far shorter. */
const sliceMs = 10;

/**
 * Processes many items with pauses for other work: `act` gets a batch of items at a time, in order. A few items are
 * processed without a pause. Throws the errors of `act`.
 */
export async function inSlices<Item>(
  items: Iterable<Item>,
  { atOnce, act }: { readonly atOnce: number; readonly act: (some: readonly Item[]) => void },
): Promise<void> {
  let since = performance.now();
  let some: Item[] = [];
  for (const item of items) {
    if (some.push(item) < atOnce) continue;
    act(some);
    some = [];
    if (performance.now() - since < sliceMs) continue;
    await setImmediate();
    since = performance.now();
  }
  if (some.length > 0) act(some);
}
