/** An index: sets of IDs by key, without empty ones. A key with a single ID, the usual case, needs no set. */
export class IdsByKey {
  readonly #ids = new Map<string, string | Set<string>>();

  /** No-op if the key is `undefined`. */
  add(key: string | undefined, id: string): void {
    if (key === undefined) return;
    const present = this.#ids.get(key);
    if (present === undefined) this.#ids.set(key, id);
    else if (typeof present !== 'string') present.add(id);
    else if (present !== id) this.#ids.set(key, new Set([present, id]));
  }

  remove(key: string | undefined, id: string): void {
    if (key === undefined) return;
    const present = this.#ids.get(key);
    if (present === undefined) return;
    if (typeof present === 'string') {
      if (present === id) this.#ids.delete(key);
      return;
    }
    present.delete(id);
    if (present.size === 0) this.#ids.delete(key);
  }

  /** Returns the IDs of a key; do not keep the set, because it may change. */
  ids(key: string | undefined): ReadonlySet<string> {
    const present = key === undefined ? undefined : this.#ids.get(key);
    if (present === undefined) return none;
    return typeof present === 'string' ? new Set([present]) : present;
  }

  /** Adds the IDs of a key to a set. */
  addTo(found: Set<string>, key: string | undefined): void {
    const present = key === undefined ? undefined : this.#ids.get(key);
    if (typeof present === 'string') found.add(present);
    else for (const id of present ?? none) found.add(id);
  }

  get isEmpty(): boolean {
    return this.#ids.size === 0;
  }

  /** Returns the number of IDs of a key. */
  size(key: string): number {
    const present = this.#ids.get(key);
    if (present === undefined) return 0;
    return typeof present === 'string' ? 1 : present.size;
  }

  /** Returns the keys that have IDs. */
  keys(): Iterable<string> {
    return this.#ids.keys();
  }
}

const none: ReadonlySet<string> = new Set();
