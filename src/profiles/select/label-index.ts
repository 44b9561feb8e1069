import { IdsByKey } from '../../model/ids-by-key.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { matches, type LabelLookup } from '../../model/selector/matches.ts';
import type { WorkCount } from '../work-count.ts';
import { AnchoredSelectors } from './anchored-selectors.ts';
import {
  inherit,
  lookup,
  noLabels,
  valueOf,
  type EffectiveLabels,
  type Item,
  type Labels,
} from './inherited-labels.ts';
import { LabelledItems } from './labelled-items.ts';
import { anchorKeys, smallestAnchor, type Anchor } from './anchors.ts';
import { Postings } from './postings.ts';

/** Notified when an item starts or stops matching a selector. */
export interface MatchListener {
  onMatch(selectorId: string, itemId: string): void;
  onMismatch(selectorId: string, itemId: string): void;
}

interface IndexedSelector {
  readonly selector: Selector;
  /** The labels that can be its anchors, as often as it names them. */
  readonly keys: readonly string[];
  /** Its present anchors; `undefined`: it may match anything. */
  anchors: readonly Anchor[] | undefined;
  readonly items: Set<string>;
}

/** An item's labels before and after a change; they are those of new items if `isNew`. */
interface Relabelling {
  readonly before: EffectiveLabels;
  readonly now: EffectiveLabels;
  readonly isNew: boolean;
}

/**
 * Index of the labelled items (endpoints, network sets) that match each selector, updated while either changes. Items
 * have their own labels and inherit those of their parents (Profiles): an own label wins, then that of the first
 * parent. A selector is anchored at the required labels with the fewest items, and moves when another choice becomes
 * smaller: so the items evaluated for it are never more than twice its smallest choice, whether items or selectors are
 * added first.
 */
export class LabelIndex<I extends Item = Item> {
  readonly #listener: MatchListener;
  readonly #work: WorkCount;
  readonly #items = new Map<string, I>();
  readonly #selectors = new Map<string, IndexedSelector>();
  readonly #parentLabels = new Map<string, Labels>();
  readonly #labelsOf = (parent: string) => this.#parentLabels.get(parent);
  readonly #labelled = new LabelledItems();
  readonly #postings = new Postings();
  readonly #anchored = new AnchoredSelectors();
  /** The selectors that an item matches. */
  readonly #matching = new IdsByKey();

  constructor(listener: MatchListener, work: WorkCount) {
    this.#listener = listener;
    this.#work = work;
  }

  /** Returns an item as it was set last; `undefined` if there is none. */
  item(id: string): I | undefined {
    return this.#items.get(id);
  }

  setItem(id: string, item: I): void {
    const before = this.#items.get(id);
    const labelsBefore = before === undefined ? nothing : inherit(before, this.#labelsOf);
    if (before !== undefined) this.#labelled.remove(id, before);
    this.#labelled.add(id, item);
    this.#items.set(id, item);
    const isNew = before === undefined;
    this.#relabel(id, { before: labelsBefore, now: inherit(item, this.#labelsOf), isNew });
  }

  removeItem(id: string): void {
    const item = this.#items.get(id);
    if (item === undefined) return;
    const labels = inherit(item, this.#labelsOf);
    for (const key in labels.own) this.#post(key, id, labels, nothing);
    for (const key in labels.inherited) {
      if (!Object.hasOwn(labels.own, key)) this.#post(key, id, labels, nothing);
    }
    this.#labelled.remove(id, item);
    for (const selectorId of this.#matching.ids(id)) this.#unmatch(selectorId, id);
    this.#items.delete(id);
  }

  /** Sets the labels of a parent; `undefined`: the parent was deleted. */
  setParent(parent: string, labels: Labels | undefined): void {
    const before = this.#parentLabels.get(parent);
    if (labels === undefined) this.#parentLabels.delete(parent);
    else this.#parentLabels.set(parent, labels);
    if (isSameRecord(before ?? {}, labels ?? {})) return;
    this.#labelled.setParent(parent, before ?? {}, labels ?? {});
    const labelsOfBefore = (one: string) => (one === parent ? before : this.#labelsOf(one));
    for (const id of this.#labelled.children(parent)) {
      const item = this.#items.get(id);
      if (item === undefined) continue;
      const labelsBefore = inherit(item, labelsOfBefore);
      this.#relabel(id, { before: labelsBefore, now: inherit(item, this.#labelsOf), isNew: false });
    }
  }

  /** Visits every item with a label that no other selector uses: its values are indexed from then on. */
  addSelector(id: string, selector: Selector): void {
    if (this.#selectors.has(id)) return;
    const keys = anchorKeys(selector);
    for (const key of keys) if (this.#postings.use(key)) this.#indexKey(key);
    const anchors = this.#smallest(selector)?.anchors;
    this.#selectors.set(id, { selector, keys, anchors, items: new Set() });
    this.#anchored.add(id, anchors);
    const candidates =
      anchors === undefined
        ? this.#items.keys()
        : new Set(anchors.flatMap((anchor) => [...this.#postings.ids(anchor)]));
    for (const itemId of candidates) {
      const item = this.#items.get(itemId);
      if (item === undefined) continue;
      this.#try(id, itemId, lookup(inherit(item, this.#labelsOf)));
    }
  }

  removeSelector(id: string): void {
    const indexed = this.#selectors.get(id);
    if (indexed === undefined) return;
    this.#anchored.remove(id, indexed.anchors);
    for (const key of indexed.keys) this.#postings.release(key);
    for (const itemId of indexed.items) {
      this.#matching.remove(itemId, id);
      this.#listener.onMismatch(id, itemId);
    }
    this.#selectors.delete(id);
  }

  /** The selectors that an item matches. */
  matchedBy(itemId: string): ReadonlySet<string> {
    return this.#matching.ids(itemId);
  }

  #relabel(id: string, { before, now, isNew }: Relabelling): void {
    this.#work.endpointsVisited++;
    let hasChanged = isNew;
    for (const key in now.own) {
      if (this.#post(key, id, before, now)) hasChanged = true;
    }
    for (const key in now.inherited) {
      if (!Object.hasOwn(now.own, key) && this.#post(key, id, before, now)) hasChanged = true;
    }
    // Labels that it does not have any more.
    for (const key in before.own) {
      if (valueOf(now, key) === undefined && this.#post(key, id, before, now)) hasChanged = true;
    }
    for (const key in before.inherited) {
      if (Object.hasOwn(before.own, key) || valueOf(now, key) !== undefined) continue;
      if (this.#post(key, id, before, now)) hasChanged = true;
    }
    if (!hasChanged) return;
    const item = this.#items.get(id);
    const isConcerned = this.#matching.size(id) > 0 || this.#anchored.hasAny(now);
    if (item === undefined || !isConcerned) return;
    const concerned = new Set<string>();
    this.#matching.addTo(concerned, id);
    this.#anchored.find(now, concerned);
    const labels = lookup(now);
    for (const selectorId of concerned) {
      this.#settle(selectorId);
      this.#try(selectorId, id, labels);
    }
  }

  /** Changes the value of an item's label in the postings; returns whether it is another one. */
  #post(key: string, id: string, before: EffectiveLabels, now: EffectiveLabels): boolean {
    const [old, value] = [valueOf(before, key), valueOf(now, key)];
    if (old === value) return false;
    this.#postings.change(key, id, old, value);
    return true;
  }

  #indexKey(key: string): void {
    for (const id of new Set(this.#labelled.ids(key))) {
      const item = this.#items.get(id);
      if (item === undefined) continue;
      this.#work.endpointsVisited++;
      const value = valueOf(inherit(item, this.#labelsOf), key);
      this.#postings.change(key, id, undefined, value);
    }
  }

  /** Moves a selector to anchors with fewer items, if there are any. */
  #settle(id: string): void {
    const indexed = this.#selectors.get(id);
    if (indexed?.anchors === undefined || indexed.keys.length < 2) return;
    const smallest = this.#smallest(indexed.selector);
    const present = indexed.anchors.reduce(
      (sum, anchor) => sum + this.#postings.population(anchor),
      0,
    );
    if (smallest === undefined || smallest.population >= present) return;
    this.#work.selectorsMoved++;
    this.#anchored.remove(id, indexed.anchors);
    this.#anchored.add(id, smallest.anchors);
    indexed.anchors = smallest.anchors;
  }

  #smallest(selector: Selector) {
    return smallestAnchor(selector, (anchor) => this.#postings.population(anchor));
  }

  #try(selectorId: string, itemId: string, labels: LabelLookup): void {
    const indexed = this.#selectors.get(selectorId);
    if (indexed === undefined) return;
    this.#work.selectorsEvaluated++;
    const isMatch = matches(indexed.selector, labels);
    if (isMatch === indexed.items.has(itemId)) return;
    if (!isMatch) return this.#unmatch(selectorId, itemId);
    this.#matching.add(itemId, selectorId);
    indexed.items.add(itemId);
    this.#listener.onMatch(selectorId, itemId);
  }

  #unmatch(selectorId: string, itemId: string): void {
    this.#matching.remove(itemId, selectorId);
    this.#selectors.get(selectorId)?.items.delete(itemId);
    this.#listener.onMismatch(selectorId, itemId);
  }
}

const nothing: EffectiveLabels = { own: noLabels, inherited: noLabels };

function isSameRecord(a: Labels, b: Labels): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
