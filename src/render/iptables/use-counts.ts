/** How often each of some things is used, by key. */
export class UseCounts {
  readonly #uses = new Map<string, number>();

  /** Adds a use; returns whether it is the first. */
  add(key: string): boolean {
    const uses = this.#uses.get(key) ?? 0;
    this.#uses.set(key, uses + 1);
    return uses === 0;
  }

  /** Removes a use; returns whether it was the last. */
  remove(key: string): boolean {
    const uses = this.#uses.get(key) ?? 0;
    if (uses > 1) this.#uses.set(key, uses - 1);
    else this.#uses.delete(key);
    return uses <= 1;
  }

  isUsed(key: string): boolean {
    return this.#uses.has(key);
  }
}
