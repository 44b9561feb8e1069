import { isCalicoError } from '../../errors/error.ts';
import { entryTypeOf, type EntryKind, type EntryValue } from '../../model/kinds/index.ts';

/** A key of a datastore and its text. */
export interface StoredItem {
  readonly key: string;
  readonly value: string;
}

/** Returns the values of a kind among some items, by ID; those that cannot be read are left out. */
export function valuesOf<K extends EntryKind>(
  items: readonly StoredItem[],
  kind: K,
): ReadonlyMap<string, EntryValue<K>> {
  const { idOf, decode } = entryTypeOf[kind];
  const values = new Map<string, EntryValue<K>>();
  for (const { key, value } of items) {
    const id = idOf(key);
    if (id === undefined) continue;
    try {
      values.set(id, decode(key, value));
    } catch (error) {
      if (!isCalicoError(error, 'datastore/corrupt')) throw error;
    }
  }
  return values;
}
