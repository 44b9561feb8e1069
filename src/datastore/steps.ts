import { isCalicoError } from '../errors/error.ts';
import type { Draft, Writer } from './writer.ts';

/** What is larger than a transaction of the datastore, done in steps that each leave everything in order. */

/** Whether a plan has done all there was to do, or must be carried out again. */
export type Progress = 'done' | 'more';

/** Carries out a plan until it says that it is done. Throws what the first step does that fails. */
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

/** So many items are written together at first. */
const itemsAtOnce = 40;

/**
 * Writes many items, some of them in one transaction, each item wholly or not at all. What is refused together is
 * halved down to single items, so that one never stops the rest; if the datastore is away, or nothing may be
 * written, the rest fails at once. `write` is given the items of one step; answers which failed.
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

/** Whether the next write would fare no better. */
function isOutage(error: unknown): boolean {
  return isCalicoError(
    error,
    'datastore/unavailable',
    'datastore/refused',
    'datastore/outcome-unknown',
    'datastore/not-in-sync',
    'datastore/locked',
  );
}
