import { IdsByKey } from '../../model/ids-by-key.ts';

export type Labels = Readonly<Record<string, string>>;

/** An item with its own labels, which also inherits those of its parents, the Profiles. */
export interface Item {
  readonly labels: Labels;
  readonly profiles: readonly string[];
}

/**
 * Returns the labels of an item, with those that it inherits: an own label wins, then that of the first Profile.
 */
export function effectiveLabels(
  { labels, profiles }: Item,
  labelsOf: (profile: string) => Labels | undefined,
): ReadonlyMap<string, string> {
  const effective = new Map<string, string>();
  for (const profile of profiles.toReversed()) {
    for (const [key, value] of Object.entries(labelsOf(profile) ?? {})) effective.set(key, value);
  }
  for (const [key, value] of Object.entries(labels)) effective.set(key, value);
  return effective;
}

/**
 * The items that have a label, own or inherited, whatever its value. Items with the same label keys share a shape, so
 * that an item costs one entry, however many labels it has.
 */
export class LabelledItems {
  readonly #children = new IdsByKey();
  readonly #parentsByKey = new IdsByKey();
  readonly #itemsByShape = new IdsByKey();
  readonly #shapesByKey = new IdsByKey();

  add(id: string, { labels, profiles }: Item): void {
    for (const parent of profiles) this.#children.add(parent, id);
    const keys = Object.keys(labels).toSorted();
    const shape = keys.join('\0');
    if (this.#itemsByShape.size(shape) === 0) {
      for (const key of keys) this.#shapesByKey.add(key, shape);
    }
    this.#itemsByShape.add(shape, id);
  }

  remove(id: string, { labels, profiles }: Item): void {
    for (const parent of profiles) this.#children.remove(parent, id);
    const keys = Object.keys(labels).toSorted();
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

  /** Yields the items that have a label; an item may be repeated. */
  *ids(key: string): Generator<string> {
    for (const shape of this.#shapesByKey.ids(key)) yield* this.#itemsByShape.ids(shape);
    for (const parent of this.#parentsByKey.ids(key)) yield* this.#children.ids(parent);
  }
}
