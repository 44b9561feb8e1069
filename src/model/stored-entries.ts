import type { EntryKind, EntryValue } from './kinds/index.ts';

/** The stored entries, as far as a check of a resource against others may read them. */
export interface StoredEntries {
  readonly get: <K extends EntryKind>(kind: K, id: string) => EntryValue<K> | undefined;
  readonly entries: <K extends EntryKind>(
    kind: K,
  ) => Iterable<readonly [id: string, value: EntryValue<K>]>;
}
