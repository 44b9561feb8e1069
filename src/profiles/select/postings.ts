import { IdsByKey } from '../../model/ids-by-key.ts';
import type { Anchor } from './anchors.ts';

interface Posting {
  uses: number;
  population: number;
  readonly byValue: IdsByKey;
}

/**
 * The items that have a label, by value, for the labels in use. A label that is not used, such as a container name
 * that differs for each item, costs nothing.
 */
export class Postings {
  readonly #byKey = new Map<string, Posting>();

  /** Adds a use of the label, until it is released as often; returns whether it is the first. */
  use(key: string): boolean {
    const posting = this.#byKey.get(key);
    if (posting === undefined) {
      this.#byKey.set(key, { uses: 1, population: 0, byValue: new IdsByKey() });
    } else {
      posting.uses++;
    }
    return posting === undefined;
  }

  release(key: string): void {
    const posting = this.#byKey.get(key);
    if (posting === undefined) return;
    posting.uses--;
    if (posting.uses === 0) this.#byKey.delete(key);
  }

  /** Changes the value of an item's label; `undefined`: it has none. */
  change(key: string, id: string, before: string | undefined, now: string | undefined): void {
    const posting = this.#byKey.get(key);
    if (posting === undefined) return;
    if (before !== undefined) {
      posting.byValue.remove(before, id);
      posting.population--;
    }
    if (now !== undefined) {
      posting.byValue.add(now, id);
      posting.population++;
    }
  }

  /** Returns the number of items at an anchor; 0 for a label that is not in use. */
  population({ key, value }: Anchor): number {
    const posting = this.#byKey.get(key);
    if (posting === undefined) return 0;
    return value === undefined ? posting.population : posting.byValue.size(value);
  }

  /** Yields the items at an anchor. */
  *ids({ key, value }: Anchor): Generator<string> {
    const byValue = this.#byKey.get(key)?.byValue;
    if (byValue === undefined) return;
    for (const one of value === undefined ? byValue.keys() : [value]) yield* byValue.ids(one);
  }
}
