/** An index: sets of ids by key, without empty ones. */
export class IdsByKey {
  readonly #sets = new Map<string, Set<string>>();

  /** Nothing if there is no key. */
  add(key: string | undefined, id: string): void {
    if (key === undefined) return;
    const ids = this.#sets.get(key);
    if (ids === undefined) this.#sets.set(key, new Set([id]));
    else ids.add(id);
  }

  remove(key: string | undefined, id: string): void {
    if (key === undefined) return;
    const ids = this.#sets.get(key);
    if (ids === undefined) return;
    ids.delete(id);
    if (ids.size === 0) this.#sets.delete(key);
  }

  /** The ids of a key; live, so not to be kept. */
  ids(key: string | undefined): ReadonlySet<string> {
    return (key === undefined ? undefined : this.#sets.get(key)) ?? none;
  }

  /** Keys that have ids. */
  keys(): Iterable<string> {
    return this.#sets.keys();
  }
}

const none: ReadonlySet<string> = new Set();
