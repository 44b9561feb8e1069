import type { EntryKind, EntryValue } from './kinds/index.ts';

/** What is stored, as far as one may look at it to find whether a resource fits to the others. */
export interface StoredEntries {
  readonly get: <K extends EntryKind>(kind: K, id: string) => EntryValue<K> | undefined;
  readonly entries: <K extends EntryKind>(
    kind: K,
  ) => Iterable<readonly [id: string, value: EntryValue<K>]>;
}
