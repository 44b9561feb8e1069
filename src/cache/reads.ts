import { inSlices } from '../async/slices.ts';
import type { CommitResult, Datastore, KeyValue, Transaction } from '../datastore/datastore.ts';
import { entryTypeOf, parseKey, type EntryKind, type EntryValue } from '../model/kinds/index.ts';
import { briefTypeOf, type BriefKind, type BriefValue } from '../model/briefs.ts';
import { decodeEntry, Tables } from './tables.ts';
import {
  keyOf,
  MustRead,
  type Stored,
  type Unreadable,
  type View,
  type ReadRequest,
} from './view.ts';

/** Maximum number of values that are decoded without a pause. */
const decodedAtOnce = 20;

/**
 * A view with entries on top that were read from the datastore, until `forget`. They are not kept current: the
 * transaction that depends on an entry read by key compares its revision (see `GroupDraft`).
 */
export class Reads implements View {
  readonly datastore: Datastore;
  readonly #base: View;
  #tables = new Tables();
  #unreadable = new Map<string, Unreadable>();
  /** Keys that have been read, absent ones included. */
  #keys = new Set<string>();
  /** The id prefixes that have been read, by kind. */
  #prefixes = new Map<EntryKind, string[]>();
  /** The lowest revision of the reads. */
  #revision: bigint | undefined;

  constructor(base: View) {
    this.datastore = base.datastore;
    this.#base = base;
  }

  get revision(): bigint {
    return this.#base.revision ?? this.#revision ?? 0n;
  }

  get<K extends EntryKind>(kind: K, id: string): Stored<EntryValue<K>> | undefined {
    return this.#has(kind, id) ? this.#tables.of(kind).get(id) : this.#base.get(kind, id);
  }

  /** Reports whether an entry was read from the datastore by its key. */
  isReadByKey(kind: EntryKind, id: string): boolean {
    return this.#keys.size > 0 && this.#keys.has(entryTypeOf[kind].key(id));
  }

  list<K extends EntryKind>(kind: K, idPrefix = ''): ReadonlyMap<string, Stored<EntryValue<K>>> {
    if (this.#hasAll(kind, idPrefix)) return this.#tables.of(kind);
    return this.#base.list(kind, idPrefix);
  }

  brief<K extends BriefKind>(kind: K, id: string): BriefValue<K> | undefined {
    if (!this.#has(kind, id)) return this.#base.brief(kind, id);
    const stored = this.#tables.of(kind).get(id);
    return stored && briefTypeOf[kind].of(stored.value);
  }

  *briefs<K extends BriefKind>(kind: K): Generator<readonly [id: string, brief: BriefValue<K>]> {
    const { of } = briefTypeOf[kind];
    for (const [id, { value }] of this.#tables.of(kind)) yield [id, of(value)];
    if (this.#hasAll(kind, '')) return;
    for (const [id, brief] of this.#base.briefs(kind)) if (!this.#has(kind, id)) yield [id, brief];
  }

  group(kind: EntryKind, group: string): ReadonlySet<string> {
    if (this.#hasAll(kind, '') || this.#hasAll(kind, `${group}/`)) {
      return this.#groupIds(kind, group);
    }
    return this.#base.group(kind, group);
  }

  #groupIds<K extends EntryKind>(kind: K, group: string): ReadonlySet<string> {
    const ids = new Set<string>();
    for (const [id, { value }] of this.#tables.of(kind)) {
      if (entryTypeOf[kind].groups(id, value).includes(group)) ids.add(id);
    }
    return ids;
  }

  unreadable(kind: EntryKind, id: string): Unreadable | undefined {
    if (!this.#has(kind, id)) return this.#base.unreadable(kind, id);
    return this.#unreadable.get(entryTypeOf[kind].key(id));
  }

  allUnreadable(kind: EntryKind): ReadonlyMap<string, Unreadable> {
    if (!this.#hasAll(kind, '')) return this.#base.allUnreadable(kind);
    const found = new Map<string, Unreadable>();
    for (const [key, unreadable] of this.#unreadable) {
      const id = entryTypeOf[kind].idOf(key);
      if (id !== undefined) found.set(id, unreadable);
    }
    return found;
  }

  /** Reads the requested entries; throws `datastore/unavailable`. */
  async read(requests: readonly ReadRequest[], signal: AbortSignal): Promise<void> {
    const keys = new Set<string>();
    for (const one of requests) if ('id' in one) keys.add(keyOf(one));
    if (keys.size > 0) {
      const { revision, items } = await this.datastore.read([...keys], signal);
      this.#readAt(revision);
      await this.#take(items);
      for (const key of keys) this.#keys.add(key);
    }
    for (const one of requests) {
      if ('idPrefix' in one && !this.#hasAll(one.kind, one.idPrefix)) {
        await this.#readPrefix(one.kind, one.idPrefix, signal);
      }
    }
  }

  async #readPrefix(kind: EntryKind, idPrefix: string, signal: AbortSignal): Promise<void> {
    for await (const page of this.datastore.pages(entryTypeOf[kind].key(idPrefix), signal)) {
      this.#readAt(page.revision);
      // Another kind may have keys below this prefix; they are skipped.
      const items = [...page.items].filter(({ key }) => entryTypeOf[kind].idOf(key) !== undefined);
      await this.#take(items);
    }
    this.#prefixes.set(kind, [...(this.#prefixes.get(kind) ?? []), idPrefix]);
  }

  /**
   * Runs a function until all that it reads is available, and returns its result; throws its errors and those of
   * reading.
   */
  async look<Result>(look: () => Result, signal: AbortSignal): Promise<Result> {
    for (;;) {
      try {
        return look();
      } catch (error) {
        if (!(error instanceof MustRead)) throw error;
        await this.read(error.requests, signal);
      }
    }
  }

  /** Drops all entries that were read; keeps only those that a conflict returned for the keys of its transaction. */
  async forget(conflict?: {
    readonly transaction: Transaction;
    readonly result: CommitResult & { readonly kind: 'conflict' };
  }): Promise<void> {
    const readKeys = this.#keys;
    if (this.#revision !== undefined) this.#clear();
    if (conflict === undefined) return;
    const { transaction, result } = conflict;
    const known = transaction.compares.filter(
      ({ key }) => readKeys.has(key) || !this.#isCached(key),
    );
    if (known.length === 0) return;
    this.#readAt(result.revision);
    await this.#take(known.flatMap(({ key }) => result.current.get(key) ?? []));
    for (const { key } of known) this.#keys.add(key);
  }

  #clear(): void {
    this.#tables = new Tables();
    this.#unreadable = new Map();
    this.#keys = new Set();
    this.#prefixes = new Map();
    this.#revision = undefined;
  }

  /** Reports whether the base has the value of a key. */
  #isCached(key: string): boolean {
    const parsed = parseKey(key);
    try {
      if (parsed !== undefined) this.#base.get(parsed.kind, parsed.id);
      return true;
    } catch (error) {
      if (error instanceof MustRead) return false;
      throw error;
    }
  }

  #readAt(revision: bigint): void {
    if (this.#revision === undefined || revision < this.#revision) this.#revision = revision;
  }

  async #take(items: readonly KeyValue[]): Promise<void> {
    const act = (some: readonly KeyValue[]) => {
      for (const item of some) {
        const parsed = parseKey(item.key);
        if (parsed !== undefined) this.#set(parsed.kind, parsed.id, item);
      }
    };
    await inSlices(items, { atOnce: decodedAtOnce, act });
  }

  #set<K extends EntryKind>(kind: K, id: string, item: KeyValue): void {
    const table = this.#tables.of(kind);
    // Keeps the order of the keys, whatever was read before.
    table.delete(id);
    this.#unreadable.delete(item.key);
    const decoded = decodeEntry(id, item, () => entryTypeOf[kind].decode(item.key, item.value));
    if ('why' in decoded) this.#unreadable.set(item.key, decoded);
    else table.set(id, decoded);
  }

  #has(kind: EntryKind, id: string): boolean {
    if (this.#revision === undefined) return false;
    return (
      this.isReadByKey(kind, id) ||
      (this.#prefixes.get(kind) ?? []).some((prefix) => id.startsWith(prefix))
    );
  }

  #hasAll(kind: EntryKind, idPrefix: string): boolean {
    return (this.#prefixes.get(kind) ?? []).some((prefix) => idPrefix.startsWith(prefix));
  }
}
