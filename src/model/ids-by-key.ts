/** An index: sets of ids by key, without empty ones. A key with one id, as most have, costs no set. */
export class IdsByKey {
  readonly #ids = new Map<string, string | Set<string>>();

  /** Nothing if there is no key. */
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

  /** The ids of a key; not to be kept, as they may change. */
  ids(key: string | undefined): ReadonlySet<string> {
    const present = key === undefined ? undefined : this.#ids.get(key);
    if (present === undefined) return none;
    return typeof present === 'string' ? new Set([present]) : present;
  }

  /** How many ids a key has. */
  size(key: string): number {
    const present = this.#ids.get(key);
    if (present === undefined) return 0;
    return typeof present === 'string' ? 1 : present.size;
  }

  /** Keys that have ids. */
  keys(): Iterable<string> {
    return this.#ids.keys();
  }
}

const none: ReadonlySet<string> = new Set();
