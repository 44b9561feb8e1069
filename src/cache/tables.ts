import { describe, isCalicoError } from '../errors/error.ts';
import type { KeyValue } from '../datastore/datastore.ts';
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

/** Returns the typed value of a stored text, or the reason why it cannot be read. */
export function decodeEntry<Value>(
  { id, key, value, modRevision }: KeyValue & { readonly id: string },
  decode: (key: string, text: string) => Value,
): Stored<Value> | Unreadable {
  try {
    return { id, value: decode(key, value), modRevision };
  } catch (error) {
    const isKnown = isCalicoError(error, 'datastore/corrupt');
    return { why: isKnown ? error.detail.why : describe(error), text: value, modRevision };
  }
}
