import { entryTypeOf, type EntryKind, type EntryValue } from '../model/entries.ts';
import type { Compare, Transaction, Write } from './datastore.ts';
import type { Stored } from './mirror.ts';

/**
 * Collects typed writes into one transaction; each compares with what the writer has seen, so nothing that
 * somebody else wrote meanwhile is lost.
 */
export class Edit {
  readonly #compares = new Map<string, Compare>();
  readonly #writes = new Map<string, Write>();

  /** The new value of an entry; `seen` is what it is to replace, `undefined` if it must not exist yet. */
  put<K extends EntryKind>(
    kind: K,
    id: string,
    value: EntryValue<K>,
    seen: Stored<EntryValue<K>> | undefined,
  ): this {
    const key = entryTypeOf[kind].key(id);
    this.#expect(key, seen?.modRevision ?? 0n);
    this.#writes.set(key, { key, value: entryTypeOf[kind].encode(value) });
    return this;
  }

  /** Removes an entry as it was seen. */
  remove<K extends EntryKind>(kind: K, seen: Stored<EntryValue<K>>): this {
    const key = entryTypeOf[kind].key(seen.id);
    this.#expect(key, seen.modRevision);
    this.#writes.set(key, { key, value: undefined });
    return this;
  }

  /** Only compares: the transaction holds if the entry still is as it was seen (absent for `undefined`). */
  expect<K extends EntryKind>(kind: K, id: string, seen: Stored<EntryValue<K>> | undefined): this {
    this.#expect(entryTypeOf[kind].key(id), seen?.modRevision ?? 0n);
    return this;
  }

  get isEmpty(): boolean {
    return this.#writes.size === 0;
  }

  transaction(): Transaction {
    return { compares: [...this.#compares.values()], writes: [...this.#writes.values()] };
  }

  #expect(key: string, modRevision: bigint): void {
    this.#compares.set(key, { key, modRevision });
  }
}
