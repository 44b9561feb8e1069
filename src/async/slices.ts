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

/** Pauses between steps that may follow one another at once, as messages do that have arrived together. */
export class Pauses {
  #busyMs = 0;

  /** Called after a step with the milliseconds that it took: pauses for other work if the last ones took a slice. */
  async after(stepMs: number): Promise<void> {
    this.#busyMs += stepMs;
    if (this.#busyMs < sliceMs) return;
    this.#busyMs = 0;
    await setImmediate();
  }
}
