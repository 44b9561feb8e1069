import { isCalicoError } from '../errors/error.ts';
import type { Draft, Writer } from './writer.ts';

/** Changes larger than a transaction, made in steps that each leave a consistent state. */

/** Whether a plan is complete or must run again. */
export type Progress = 'done' | 'more';

/** Runs a plan until it is done. Throws the error of the first failing step. */
export async function writeAll(
  writer: Pick<Writer, 'write'>,
  plan: (draft: Draft) => Progress,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const { result } = await writer.write(plan, signal);
    if (result === 'done') return;
  }
}

/** One item that was not written, and why. */
export interface Failed<Item> {
  readonly item: Item;
  readonly error: unknown;
}

/** Number of items in the first steps. */
const itemsAtOnce = 40;

/**
 * Writes many items, several per transaction, each item completely or not at all. A failing step is split in halves
 * down to single items, so that one item never stops the rest; if the datastore is unavailable or locked, the rest
 * fails immediately. `write` gets the items of one step. Returns the failed items.
 */
export async function writeInSteps<Item>(
  items: readonly Item[],
  write: (step: readonly Item[]) => Promise<unknown>,
): Promise<readonly Failed<Item>[]> {
  const failed: Failed<Item>[] = [];
  const steps: (readonly Item[])[] = [];
  for (let from = 0; from < items.length; from += itemsAtOnce) {
    steps.push(items.slice(from, from + itemsAtOnce));
  }
  for (let step = steps.shift(); step !== undefined; step = steps.shift()) {
    try {
      await write(step);
    } catch (error) {
      if (isOutage(error)) {
        for (const item of [step, ...steps].flat()) failed.push({ item, error });
        break;
      }
      const half = Math.ceil(step.length / 2);
      if (step.length > 1) steps.unshift(step.slice(0, half), step.slice(half));
      else for (const item of step) failed.push({ item, error });
    }
  }
  return failed;
}

/** Reports whether the next write would fail as well. */
function isOutage(error: unknown): boolean {
  return isCalicoError(
    error,
    'datastore/unavailable',
    'datastore/refused',
    'datastore/outcome-unknown',
    'datastore/not-in-sync',
    'datastore/locked',
    'datastore/moving',
    'datastore/restoring',
    'datastore/moved',
  );
}
