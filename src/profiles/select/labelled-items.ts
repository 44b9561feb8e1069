import { IdsByKey } from '../../model/ids-by-key.ts';

export type Labels = Readonly<Record<string, string>>;

/** An item with its own labels, which also inherits those of its parents, the Profiles. */
export interface Item {
  readonly labels: Labels;
  readonly profiles: readonly string[];
}

/** The items with the same label keys and the same parents. */
interface Shape {
  readonly keys: readonly string[];
  readonly parents: readonly string[];
  readonly items: Set<string>;
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
 * The items that have a label, own or inherited, whatever its value, or a parent. Items with the same label keys and
 * parents share a shape, so that an item costs one entry, however many labels and parents it has.
 */
export class LabelledItems {
  readonly #parentsByKey = new IdsByKey();
  readonly #shapes = new Map<string, Shape>();
  readonly #shapesByKey = new IdsByKey();
  readonly #shapesByParent = new IdsByKey();

  add(id: string, item: Item): void {
    const name = shapeOf(item);
    let shape = this.#shapes.get(name);
    if (shape === undefined) {
      shape = { keys: Object.keys(item.labels), parents: item.profiles, items: new Set() };
      this.#shapes.set(name, shape);
      for (const key of shape.keys) this.#shapesByKey.add(key, name);
      for (const parent of shape.parents) this.#shapesByParent.add(parent, name);
    }
    shape.items.add(id);
  }

  remove(id: string, item: Item): void {
    const name = shapeOf(item);
    const shape = this.#shapes.get(name);
    if (shape === undefined) return;
    shape.items.delete(id);
    if (shape.items.size > 0) return;
    this.#shapes.delete(name);
    for (const key of shape.keys) this.#shapesByKey.remove(key, name);
    for (const parent of shape.parents) this.#shapesByParent.remove(parent, name);
  }

  setParent(parent: string, before: Labels, now: Labels): void {
    for (const key of Object.keys(before)) this.#parentsByKey.remove(key, parent);
    for (const key of Object.keys(now)) this.#parentsByKey.add(key, parent);
  }

  /** Yields the items that have a parent. */
  *children(parent: string): Generator<string> {
    for (const name of this.#shapesByParent.ids(parent)) yield* this.#shapes.get(name)?.items ?? [];
  }

  /** Yields the items that have a label; an item may be repeated. */
  *ids(key: string): Generator<string> {
    for (const name of this.#shapesByKey.ids(key)) yield* this.#shapes.get(name)?.items ?? [];
    for (const parent of this.#parentsByKey.ids(key)) yield* this.children(parent);
  }
}

/** Returns a name of the shape of an item; the order of its labels does not matter to anyone, but makes another. */
function shapeOf({ labels, profiles }: Item): string {
  let name = '';
  for (const key in labels) name += `${key}\0`;
  for (const parent of profiles) name += `\0${parent}`;
  return name;
}
