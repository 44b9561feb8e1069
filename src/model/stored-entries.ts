import type { EntryKind, EntryValue } from './kinds/index.ts';

/**
 * The stored entries, as far as a check of a resource against others may read them. The list of kinds consists of
 * kinds that take this interface: a circle of types only, without imports at run time. Breaking it would take lookups
 * by the type object of a kind, and every store of entries would have to map that object back to its kind.
 */
export interface StoredEntries {
  readonly get: <K extends EntryKind>(kind: K, id: string) => EntryValue<K> | undefined;
  readonly entries: <K extends EntryKind>(
    kind: K,
  ) => Iterable<readonly [id: string, value: EntryValue<K>]>;
}
