import { IdsByKey } from '../../model/ids-by-key.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { matches } from '../../model/selector/matches.ts';
import { restrictions } from '../../model/selector/restrictions.ts';
import type { WorkCount } from '../output.ts';

/** Told when an endpoint begins or ceases to match a selector. */
export interface MatchListener {
  onMatch(selectorId: string, endpointId: string): void;
  onMismatch(selectorId: string, endpointId: string): void;
}

interface IndexedEndpoint {
  readonly own: ReadonlyMap<string, string>;
  readonly parents: readonly string[];
  readonly effective: ReadonlyMap<string, string>;
  readonly matching: Set<string>;
}

interface IndexedSelector {
  readonly selector: Selector;
  /** Where it stands in the index of selectors. */
  readonly places: readonly Place[];
  readonly endpoints: Set<string>;
}

/** One label that must be there, with one of its values or any. */
interface Place {
  readonly key: string;
  readonly value: string | undefined;
}

type Labels = Readonly<Record<string, string>>;

/**
 * Which endpoints match which selectors, kept while either changes. Endpoints have labels of their own and
 * inherit those of their parents (Profiles): an own label wins, then that of the first parent. Both sides are
 * indexed by label, so that a change looks only at what it can concern.
 */
export class LabelIndex {
  readonly #listener: MatchListener;
  readonly #work: WorkCount;
  readonly #endpoints = new Map<string, IndexedEndpoint>();
  readonly #selectors = new Map<string, IndexedSelector>();
  readonly #parentLabels = new Map<string, Labels>();
  readonly #children = new IdsByKey();
  readonly #endpointsByLabel = new IdsByKey();
  readonly #selectorsByLabel = new IdsByKey();

  constructor(listener: MatchListener, work: WorkCount) {
    this.#listener = listener;
    this.#work = work;
  }

  setEndpoint(id: string, own: Labels, parents: readonly string[]): void {
    const before = this.#endpoints.get(id);
    for (const parent of before?.parents ?? []) this.#children.remove(parent, id);
    for (const parent of parents) this.#children.add(parent, id);
    this.#place(id, new Map(Object.entries(own)), parents);
  }

  removeEndpoint(id: string): void {
    const endpoint = this.#endpoints.get(id);
    if (endpoint === undefined) return;
    this.#unindex(id, endpoint.effective);
    for (const parent of endpoint.parents) this.#children.remove(parent, id);
    for (const selectorId of endpoint.matching) this.#unmatch(selectorId, id, endpoint);
    this.#endpoints.delete(id);
  }

  /** The labels that a parent gives; `undefined`: there is no such parent. */
  setParent(parent: string, labels: Labels | undefined): void {
    const before = this.#parentLabels.get(parent);
    if (labels === undefined) this.#parentLabels.delete(parent);
    else this.#parentLabels.set(parent, labels);
    if (isSameRecord(before ?? {}, labels ?? {})) return;
    for (const id of this.#children.ids(parent)) {
      const endpoint = this.#endpoints.get(id);
      if (endpoint !== undefined) this.#place(id, endpoint.own, endpoint.parents);
    }
  }

  addSelector(id: string, selector: Selector): void {
    if (this.#selectors.has(id)) return;
    const places = placesOf(selector);
    this.#selectors.set(id, { selector, places, endpoints: new Set() });
    for (const place of places) this.#selectorsByLabel.add(placeKey(place), id);
    for (const endpointId of this.#candidateEndpoints(places)) this.#try(id, endpointId);
  }

  removeSelector(id: string): void {
    const indexed = this.#selectors.get(id);
    if (indexed === undefined) return;
    for (const place of indexed.places) this.#selectorsByLabel.remove(placeKey(place), id);
    for (const endpointId of indexed.endpoints) {
      this.#endpoints.get(endpointId)?.matching.delete(id);
      this.#listener.onMismatch(id, endpointId);
    }
    this.#selectors.delete(id);
  }

  /** The endpoints that match a selector. */
  matching(selectorId: string): ReadonlySet<string> {
    return this.#selectors.get(selectorId)?.endpoints ?? new Set();
  }

  /** The selectors that an endpoint matches. */
  matchedBy(endpointId: string): ReadonlySet<string> {
    return this.#endpoints.get(endpointId)?.matching ?? new Set();
  }

  #place(id: string, own: ReadonlyMap<string, string>, parents: readonly string[]): void {
    this.#work.endpointsVisited++;
    const before = this.#endpoints.get(id);
    const effective = this.#inherit(own, parents);
    const matching = before?.matching ?? new Set<string>();
    if (before !== undefined) this.#unindex(id, before.effective);
    this.#endpoints.set(id, { own, parents, effective, matching });
    for (const [key, value] of effective) {
      this.#endpointsByLabel.add(placeKey({ key, value }), id);
      this.#endpointsByLabel.add(placeKey({ key, value: undefined }), id);
    }
    for (const selectorId of new Set([...matching, ...this.#candidateSelectors(effective)])) {
      this.#try(selectorId, id);
    }
  }

  #inherit(
    own: ReadonlyMap<string, string>,
    parents: readonly string[],
  ): ReadonlyMap<string, string> {
    const effective = new Map<string, string>();
    for (const parent of parents.toReversed()) {
      for (const [key, value] of Object.entries(this.#parentLabels.get(parent) ?? {})) {
        effective.set(key, value);
      }
    }
    for (const [key, value] of own) effective.set(key, value);
    return effective;
  }

  #unindex(id: string, labels: ReadonlyMap<string, string>): void {
    for (const [key, value] of labels) {
      this.#endpointsByLabel.remove(placeKey({ key, value }), id);
      this.#endpointsByLabel.remove(placeKey({ key, value: undefined }), id);
    }
  }

  *#candidateSelectors(labels: ReadonlyMap<string, string>): Generator<string> {
    yield* this.#selectorsByLabel.ids(anywhere);
    for (const [key, value] of labels) {
      yield* this.#selectorsByLabel.ids(placeKey({ key, value }));
      yield* this.#selectorsByLabel.ids(placeKey({ key, value: undefined }));
    }
  }

  #candidateEndpoints(places: readonly Place[]): Iterable<string> {
    if (places.some(({ key }) => key === '')) return this.#endpoints.keys();
    return new Set(places.flatMap((place) => [...this.#endpointsByLabel.ids(placeKey(place))]));
  }

  #try(selectorId: string, endpointId: string): void {
    const indexed = this.#selectors.get(selectorId);
    const endpoint = this.#endpoints.get(endpointId);
    if (indexed === undefined || endpoint === undefined) return;
    this.#work.selectorsEvaluated++;
    const isMatch = matches(indexed.selector, endpoint.effective);
    if (isMatch === endpoint.matching.has(selectorId)) return;
    if (!isMatch) return this.#unmatch(selectorId, endpointId, endpoint);
    endpoint.matching.add(selectorId);
    indexed.endpoints.add(endpointId);
    this.#listener.onMatch(selectorId, endpointId);
  }

  #unmatch(selectorId: string, endpointId: string, endpoint: IndexedEndpoint): void {
    endpoint.matching.delete(selectorId);
    this.#selectors.get(selectorId)?.endpoints.delete(endpointId);
    this.#listener.onMismatch(selectorId, endpointId);
  }
}

/** A place that stands for "no label in particular". */
const anywhere = placeKey({ key: '', value: undefined });

/** One label of those that must be there: the one with the fewest values; any label will do to find a candidate. */
function placesOf(selector: Selector): readonly Place[] {
  const best = [...restrictions(selector)]
    .map(([key, restriction]) =>
      restriction === 'present'
        ? [{ key, value: undefined }]
        : [...restriction].map((value) => ({ key, value })),
    )
    .toSorted((a, b) => weight(a) - weight(b))[0];
  return best ?? [{ key: '', value: undefined }];
}

function weight(places: readonly Place[]): number {
  return places.some(({ value }) => value === undefined) ? 1000 : places.length;
}

function placeKey({ key, value }: Place): string {
  return value === undefined ? key : `${key}\0${value}`;
}

function isSameRecord(a: Labels, b: Labels): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
