import { isDeepStrictEqual } from 'node:util';
import type { EncodedKeyValue, KeyChange } from '../datastore/datastore.ts';
import type { BriefValue } from '../model/briefs.ts';
import {
  entryKinds,
  entryTypeOf,
  parseKey,
  type EntryKind,
  type EntryValue,
} from '../model/kinds/index.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import type { CacheScope } from './cache-scope.ts';
import type { BriefChange, EntryChange, WrittenValues } from './mirror.ts';
import { endpointIdIn } from './endpoint-keys.ts';
import { BriefTables, decodeEntry, keyTextOf, Tables, textOf, type Written } from './tables.ts';
import type { Stored, Unreadable } from './view.ts';

/** The new state of a key. */
type Change = KeyChange | EncodedKeyValue;

/** Changes for the listeners. */
export interface CachedChanges {
  readonly changes: EntryChange[];
  readonly briefs: BriefChange[];
}

/** The cached state of one entry: whole, in brief, or nothing. */
interface Held<Value, Brief> {
  readonly whole?: Stored<Value> | undefined;
  readonly brief?: Stored<Brief> | undefined;
}

/** An entry before and after a change. */
interface HeldChange<Value, Brief> {
  readonly before: Held<Value, Brief>;
  readonly now: Held<Value, Brief>;
}

/** The entries of the datastore that are cached: whole, in brief or, if a value cannot be read, as its error. */
export class CachedEntries {
  readonly #scope: CacheScope;
  /** Returns the values that a text was encoded from, if this process wrote it. */
  readonly #valuesOf: (written: Written) => WrittenValues | undefined;
  readonly #tables = new Tables();
  readonly #briefs = new BriefTables();
  readonly #groups = new Map(entryKinds.map((kind) => [kind, new IdsByKey()]));
  readonly #unreadable = new Map<string, Unreadable>();

  constructor(scope: CacheScope, valuesOf: (written: Written) => WrittenValues | undefined) {
    this.#scope = scope;
    this.#valuesOf = valuesOf;
  }

  whole<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<EntryValue<K>>> {
    return this.#tables.of(kind);
  }

  inBrief<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<BriefValue<K>>> {
    return this.#briefs.of(kind);
  }

  /** Stored values that cannot be read, by key. */
  get unreadable(): ReadonlyMap<string, Unreadable> {
    return this.#unreadable;
  }

  group(kind: EntryKind, group: string): ReadonlySet<string> {
    return this.#groups.get(kind)?.ids(group) ?? new Set();
  }

  /** Reports whether an entry that is not cached whole has to be read from the datastore. */
  mustBeRead(kind: EntryKind, id: string): boolean {
    return this.#scope.uncached.has(kind) || this.#briefs.of(kind).has(id);
  }

  /** Reports whether some entries of a kind are not cached whole. */
  mustBeListed(kind: EntryKind): boolean {
    return this.#scope.uncached.has(kind) || this.#briefs.of(kind).size > 0;
  }

  /** Reports whether the revision of a key, or its absence, is known. */
  isCached(key: string): boolean {
    const parsed = parseKey(key);
    if (parsed === undefined) return false;
    const { kind, id } = parsed;
    return !this.#scope.uncached.has(kind) || this.#tables.of(kind).has(id);
  }

  /** Returns the revision of a key's last write, as far as it is known; 0 if the key is absent. */
  modRevisionOf(key: string): bigint {
    const parsed = parseKey(key);
    if (parsed === undefined) return 0n;
    const { kind, id } = parsed;
    const stored = this.#tables.of(kind).get(id) ?? this.#briefs.of(kind).get(id);
    return stored?.modRevision ?? this.#unreadable.get(key)?.modRevision ?? 0n;
  }

  /** Yields the keys of all cached entries. */
  *keys(): Generator<string> {
    for (const kind of entryKinds) {
      const { key } = entryTypeOf[kind];
      for (const id of this.#tables.of(kind).keys()) yield key(id);
      for (const id of this.#briefs.of(kind).keys()) yield key(id);
    }
    yield* this.#unreadable.keys();
  }

  /** Drops entries that are cached only because this process wrote them: listings do not contain them. */
  dropUnlisted(): void {
    for (const kind of this.#scope.uncached) this.#tables.of(kind).clear();
  }

  /** Applies the new state of a key; adds the resulting changes to `changed`. */
  apply(change: Change, changed: CachedChanges): void {
    const endpoint = 'bytes' in change ? endpointIdIn(change) : undefined;
    if (endpoint !== undefined) return this.#apply('WorkloadEndpoint', endpoint, change, changed);
    const parsed = parseKey(keyTextOf(change));
    if (parsed !== undefined) this.#apply(parsed.kind, copied(parsed.id), change, changed);
  }

  #apply<K extends EntryKind>(kind: K, id: string, change: Change, changed: CachedChanges): void {
    const [wholes, briefs] = [this.#tables.of(kind), this.#briefs.of(kind)];
    const before = { whole: wholes.get(id), brief: briefs.get(id) };
    const known = before.whole ?? before.brief;
    if (known?.modRevision === change.modRevision && isWritten(change)) return;
    const now = this.#decode(kind, id, change);
    const isSame = isDeepStrictEqual(before.brief?.value, now.brief?.value);
    if (now.whole !== undefined) wholes.set(id, now.whole);
    else if (before.whole !== undefined) wholes.delete(id);
    if (now.brief !== undefined) briefs.set(id, now.brief);
    else if (before.brief !== undefined) briefs.delete(id);
    this.#regroup(kind, id, { before, now });
    if (before.whole !== undefined || now.whole !== undefined) {
      const one: EntryChange<K> = { kind, id, before: before.whole, now: now.whole };
      // A change of one kind is one of the alternatives; the type parameter hides that from the compiler.
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      changed.changes.push(one as EntryChange);
    }
    if (!isSame && now.whole === undefined) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      changed.briefs.push({ kind, id, brief: now.brief?.value } as BriefChange);
    }
  }

  #regroup<K extends EntryKind>(
    kind: K,
    id: string,
    change: HeldChange<EntryValue<K>, BriefValue<K>>,
  ): void {
    const [before, now] = [
      this.#groupsOf(kind, id, change.before),
      this.#groupsOf(kind, id, change.now),
    ];
    const groups = this.#groups.get(kind);
    for (const group of before) if (!now.includes(group)) groups?.remove(group, id);
    for (const group of now) if (!before.includes(group)) groups?.add(group, id);
  }

  #groupsOf<K extends EntryKind>(
    kind: K,
    id: string,
    { whole, brief }: Held<EntryValue<K>, BriefValue<K>>,
  ): readonly string[] {
    if (whole !== undefined) return entryTypeOf[kind].groups(id, whole.value);
    if (brief === undefined) return noGroups;
    return this.#scope.briefs[kind]?.groups(id, brief.value) ?? noGroups;
  }

  #decode<K extends EntryKind>(
    kind: K,
    id: string,
    change: Change,
  ): Held<EntryValue<K>, BriefValue<K>> {
    // The key of a listed value is not a text yet.
    if (this.#unreadable.size > 0) this.#unreadable.delete(keyTextOf(change));
    if (!isWritten(change)) return nothing;
    const known = this.#valuesOf(change)?.written(kind, id);
    const isOthers = this.#scope.uncached.has(kind) && !this.#tables.of(kind).has(id);
    if (known === undefined && isOthers) return nothing;
    const briefs = this.#scope.briefs[kind];
    if (briefs !== undefined) {
      const decode = known === undefined ? briefs.decode : () => briefs.of(known);
      const brief = decodeEntry(id, change, decode);
      if ('why' in brief) return this.#notReadable(keyTextOf(change), brief);
      if (briefs.isEnough(brief.value)) return { brief };
    }
    const { modRevision } = change;
    if (known !== undefined) return { whole: { id, value: known, modRevision } };
    const whole = decodeEntry(id, change, (written) =>
      entryTypeOf[kind].decode(keyTextOf(written), textOf(written)),
    );
    return 'why' in whole ? this.#notReadable(keyTextOf(change), whole) : { whole };
  }

  #notReadable(key: string, unreadable: Unreadable): Held<never, never> {
    this.#unreadable.set(key, unreadable);
    return nothing;
  }
}

const nothing: Held<never, never> = {};
const noGroups: readonly string[] = [];

function isWritten(change: Change): change is Written {
  return !('value' in change) || change.value !== undefined;
}

/** Copies a text: as a part of another, its key, it would keep the whole of that in memory. */
function copied(text: string): string {
  return Buffer.from(text).toString();
}
