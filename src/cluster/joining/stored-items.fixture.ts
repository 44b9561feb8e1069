import { entryTypeOf, type EntryKind, type EntryValue } from '../../model/kinds/index.ts';
import type { StoredItem } from './stored-items.ts';

/** Returns the item of a value. */
export function itemOf<K extends EntryKind>(kind: K, id: string, value: EntryValue<K>): StoredItem {
  const { key, encode } = entryTypeOf[kind];
  return { key: key(id), value: encode(value) };
}
