import { describe, isCalicoError } from '../errors/error.ts';
import {
  decodeKey,
  decodeText,
  type EncodedKeyValue,
  type KeyValue,
} from '../datastore/datastore.ts';
import type { BriefValue } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import type { Stored, Unreadable } from './view.ts';

/** The entries of each kind by id. */
export class Tables {
  readonly #tables: { [K in EntryKind]?: Map<string, Stored<EntryValue<K>>> } = {};

  /** Those of one kind. */
  of<K extends EntryKind>(kind: K): Map<string, Stored<EntryValue<K>>> {
    this.#tables[kind] ??= new Map();
    return this.#tables[kind];
  }
}

/** The briefs of each kind by id. */
export class BriefTables {
  readonly #tables: { [K in EntryKind]?: Map<string, Stored<BriefValue<K>>> } = {};

  /** Those of one kind. */
  of<K extends EntryKind>(kind: K): Map<string, Stored<BriefValue<K>>> {
    this.#tables[kind] ??= new Map();
    return this.#tables[kind];
  }
}

/** A stored value, as text or as bytes. */
export type Written = KeyValue | EncodedKeyValue;

/** Returns the key of an item, also of one that was removed. */
export function keyTextOf(item: { readonly key: string } | EncodedKeyValue): string {
  return 'key' in item ? item.key : decodeKey(item);
}

/** Returns the text of a value. */
export function textOf(written: Written): string {
  return 'value' in written ? written.value : decodeText(written);
}

/** Returns the typed value of a stored text, or the reason why it cannot be read. */
export function decodeEntry<Value>(
  id: string,
  written: Written,
  decode: (written: Written) => Value,
): Stored<Value> | Unreadable {
  const { modRevision } = written;
  try {
    return { id, value: decode(written), modRevision };
  } catch (error) {
    const isKnown = isCalicoError(error, 'datastore/corrupt');
    const why = isKnown ? error.detail.why : describe(error);
    return { why, text: textOf(written), modRevision };
  }
}
