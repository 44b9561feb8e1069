/**
 * What is wanted, what is there, and what differs, kept while either changes: reading the difference costs as
 * much as there is of it, whatever the size of the whole. It does not change anything itself: its owner
 * carries the difference out and records what was done with `setActual` and `deleteActual`.
 */
export class DeltaTracker<Key, Value> {
  readonly #desired = new Map<Key, Value>();
  readonly #actual = new Map<Key, Value>();
  readonly #updates = new Set<Key>();
  readonly #removals = new Set<Key>();
  readonly #isEqual: (a: Value, b: Value) => boolean;

  constructor(isEqual: (a: Value, b: Value) => boolean) {
    this.#isEqual = isEqual;
  }

  setDesired(key: Key, value: Value): void {
    this.#desired.set(key, value);
    this.#compare(key);
  }

  deleteDesired(key: Key): void {
    this.#desired.delete(key);
    this.#compare(key);
  }

  setActual(key: Key, value: Value): void {
    this.#actual.set(key, value);
    this.#compare(key);
  }

  deleteActual(key: Key): void {
    this.#actual.delete(key);
    this.#compare(key);
  }

  /** What is there, as it was just read in full. */
  replaceActual(actual: Iterable<readonly [Key, Value]>): void {
    const before = [...this.#actual.keys()];
    this.#actual.clear();
    for (const [key, value] of actual) this.#actual.set(key, value);
    for (const key of this.#actual.keys()) this.#compare(key);
    for (const key of before) if (!this.#actual.has(key)) this.#compare(key);
  }

  get desired(): ReadonlyMap<Key, Value> {
    return this.#desired;
  }

  get actual(): ReadonlyMap<Key, Value> {
    return this.#actual;
  }

  /** What is to be made or changed, as it is now; safe to record while going through it. */
  updates(): readonly (readonly [key: Key, value: Value])[] {
    return [...this.#updates].flatMap((key) => {
      const value = this.#desired.get(key);
      return value === undefined ? [] : [[key, value] as const];
    });
  }

  /** What is to be removed, with what is there of it. */
  removals(): readonly (readonly [key: Key, value: Value])[] {
    return [...this.#removals].flatMap((key) => {
      const value = this.#actual.get(key);
      return value === undefined ? [] : [[key, value] as const];
    });
  }

  get isInSync(): boolean {
    return this.#updates.size === 0 && this.#removals.size === 0;
  }

  #compare(key: Key): void {
    const desired = this.#desired.get(key);
    const actual = this.#actual.get(key);
    const isRight = desired !== undefined && actual !== undefined && this.#isEqual(desired, actual);
    if (desired === undefined || isRight) this.#updates.delete(key);
    else this.#updates.add(key);
    if (desired === undefined && actual !== undefined) this.#removals.add(key);
    else this.#removals.delete(key);
  }
}
