import { IdsByKey } from '../../model/ids-by-key.ts';
import type { Anchor } from './anchors.ts';

interface Posting {
  uses: number;
  population: number;
  readonly byValue: IdsByKey;
}

/**
 * Which items have a label, and with which value, for the labels that somebody asks for. A label that nobody asks
 * for, as a container's name that is another one for each item, costs nothing.
 */
export class Postings {
  readonly #byKey = new Map<string, Posting>();

  /** From now on the label is asked for, as often as it is released; answers whether it was not before. */
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

  /** The item's label is another one now; `undefined`: it has none. */
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

  /** How many items are at a place; nothing is known of a label that is not asked for. */
  population({ key, value }: Anchor): number {
    const posting = this.#byKey.get(key);
    if (posting === undefined) return 0;
    return value === undefined ? posting.population : posting.byValue.size(value);
  }

  /** The items at a place. */
  *ids({ key, value }: Anchor): Generator<string> {
    const byValue = this.#byKey.get(key)?.byValue;
    if (byValue === undefined) return;
    for (const one of value === undefined ? byValue.keys() : [value]) yield* byValue.ids(one);
  }
}
