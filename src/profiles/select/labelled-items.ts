import { IdsByKey } from '../../model/ids-by-key.ts';

export type Labels = Readonly<Record<string, string>>;

/** What has labels of its own, and inherits those of its parents. */
export interface Item {
  readonly own: Labels;
  readonly parents: readonly string[];
}

/**
 * Who has a label at all, own or inherited, without a word about its value. Items whose labels have the same keys
 * are of one shape, so that an item costs one entry however many labels it has.
 */
export class LabelledItems {
  readonly #children = new IdsByKey();
  readonly #parentsByKey = new IdsByKey();
  readonly #itemsByShape = new IdsByKey();
  readonly #shapesByKey = new IdsByKey();

  add(id: string, { own, parents }: Item): void {
    for (const parent of parents) this.#children.add(parent, id);
    const keys = Object.keys(own).toSorted();
    const shape = keys.join('\0');
    if (this.#itemsByShape.size(shape) === 0) {
      for (const key of keys) this.#shapesByKey.add(key, shape);
    }
    this.#itemsByShape.add(shape, id);
  }

  remove(id: string, { own, parents }: Item): void {
    for (const parent of parents) this.#children.remove(parent, id);
    const keys = Object.keys(own).toSorted();
    const shape = keys.join('\0');
    this.#itemsByShape.remove(shape, id);
    if (this.#itemsByShape.size(shape) > 0) return;
    for (const key of keys) this.#shapesByKey.remove(key, shape);
  }

  setParent(parent: string, before: Labels, now: Labels): void {
    for (const key of Object.keys(before)) this.#parentsByKey.remove(key, parent);
    for (const key of Object.keys(now)) this.#parentsByKey.add(key, parent);
  }

  children(parent: string): ReadonlySet<string> {
    return this.#children.ids(parent);
  }

  /** The items that have a label; the same one may come more than once. */
  *ids(key: string): Generator<string> {
    for (const shape of this.#shapesByKey.ids(key)) yield* this.#itemsByShape.ids(shape);
    for (const parent of this.#parentsByKey.ids(key)) yield* this.#children.ids(parent);
  }
}
