/**
 * Desired and actual state, and the delta between them, updated while either changes: reading the delta costs only its
 * own size. It changes nothing itself: its owner applies the delta and records what was done with `setActual` and
 * `deleteActual`.
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

  /** Replaces the actual state by the one just read in full. */
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

  /** Returns the entries to create or change, as a snapshot; recording while iterating is safe. */
  updates(): readonly (readonly [key: Key, value: Value])[] {
    return [...this.#updates].flatMap((key) => {
      const value = this.#desired.get(key);
      return value === undefined ? [] : [[key, value] as const];
    });
  }

  /** Returns the entries to remove, with their actual values. */
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
