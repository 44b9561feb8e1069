import { IdsByKey } from '../../model/ids-by-key.ts';
import type { Item, Labels } from './inherited-labels.ts';
import { TextPath } from './text-path.ts';

/** The items with the same label keys and the same parents. */
interface Shape {
  readonly keys: readonly string[];
  readonly parents: readonly string[];
  readonly items: Set<string>;
}

/**
 * The items that have a label, own or inherited, whatever its value, or a parent. Items with the same label keys and
 * parents share a shape, so that an item costs one entry, however many labels and parents it has.
 */
export class LabelledItems {
  readonly #parentsByKey = new IdsByKey();
  readonly #shapes = new TextPath<Shape>();
  readonly #shapesByKey = new Map<string, Set<Shape>>();
  readonly #shapesByParent = new Map<string, Set<Shape>>();

  add(id: string, item: Item): void {
    const path = this.#pathOf(item);
    path.value ??= this.#newShape(item);
    path.value.items.add(id);
  }

  remove(id: string, item: Item): void {
    const path = this.#pathOf(item);
    const shape = path.value;
    shape?.items.delete(id);
    if (shape !== undefined && shape.items.size > 0) return;
    path.clear();
    if (shape === undefined) return;
    for (const key of shape.keys) remove(this.#shapesByKey, key, shape);
    for (const parent of shape.parents) remove(this.#shapesByParent, parent, shape);
  }

  setParent(parent: string, before: Labels, now: Labels): void {
    for (const key of Object.keys(before)) this.#parentsByKey.remove(key, parent);
    for (const key of Object.keys(now)) this.#parentsByKey.add(key, parent);
  }

  /** Yields the items that have a parent. */
  *children(parent: string): Generator<string> {
    for (const { items } of this.#shapesByParent.get(parent) ?? []) yield* items;
  }

  /** Yields the items that have a label; an item may be repeated. */
  *ids(key: string): Generator<string> {
    for (const { items } of this.#shapesByKey.get(key) ?? []) yield* items;
    for (const parent of this.#parentsByKey.ids(key)) yield* this.children(parent);
  }

  /** The order of labels does not matter to anyone, but makes another shape. */
  #pathOf({ labels, profiles }: Item): TextPath<Shape> {
    let path = this.#shapes;
    for (const key in labels) path = path.to(key);
    path = path.to(keysEnd);
    for (const parent of profiles) path = path.to(parent);
    return path;
  }

  #newShape({ labels, profiles }: Item): Shape {
    const shape = { keys: Object.keys(labels), parents: profiles, items: new Set<string>() };
    for (const key of shape.keys) add(this.#shapesByKey, key, shape);
    for (const parent of shape.parents) add(this.#shapesByParent, parent, shape);
    return shape;
  }
}

/** No label has it as its key. */
const keysEnd = '\0';

function add(shapes: Map<string, Set<Shape>>, key: string, shape: Shape): void {
  const present = shapes.get(key);
  if (present === undefined) shapes.set(key, new Set([shape]));
  else present.add(shape);
}

function remove(shapes: Map<string, Set<Shape>>, key: string, shape: Shape): void {
  const present = shapes.get(key);
  present?.delete(shape);
  if (present?.size === 0) shapes.delete(key);
}
