import { CalicoError } from '../errors/error.ts';
import { briefTypeOf, type BriefKind, type BriefValue } from '../model/briefs.ts';
import { entryKinds, entryTypeOf, type EntryKind, type EntryValue } from '../model/kinds/index.ts';
import type { Compare, RangeCompare, Transaction, Write } from '../datastore/datastore.ts';
import type { WrittenValues } from './mirror.ts';
import type { Reads } from './reads.ts';
import { MustRead, type ReadRequest } from './view.ts';
import type { Draft } from '../datastore/writer.ts';

/** The entries that a group reads or writes, by kind and id; a kind that it does not touch is absent. */
type Cells = { [K in EntryKind]?: Map<string, Cell<EntryValue<K>>> };

/** An entry that the group reads or writes: its revision before, and its new value. */
interface Cell<Value> {
  readonly seenRevision: bigint;
  readonly value: Value | undefined;
  readonly isWritten: boolean;
}

/** A view with the changes of one group of plans on top. */
export class GroupDraft implements Draft, WrittenValues {
  readonly #view: Reads;
  readonly #cells: Cells = {};
  /** Undoes each change of a cell, in the order of the changes. */
  readonly #undo: (() => void)[] = [];
  /** Key prefixes in which no other writer may have written. */
  readonly #ranges = new Map<string, Pick<RangeCompare, 'prefix' | 'isOfNewKeys'>>();
  readonly #revision: bigint;
  #touchedKeys = 0;
  #writtenKeys = 0;

  constructor(view: Reads) {
    this.#view = view;
    this.#revision = view.revision;
  }

  /** The number of keys and ranges that the transaction compares. */
  get touchedKeys(): number {
    return this.#touchedKeys + this.#ranges.size;
  }

  /** The number of keys that have been put or removed. */
  get writtenKeys(): number {
    return this.#writtenKeys;
  }

  get<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined {
    const cell = this.#cellsOf(kind).get(id);
    if (cell !== undefined && cell.isWritten) return cell.value;
    const stored = this.#view.get(kind, id);
    // The watch does not report its changes: the commit must check that it is unchanged.
    if (this.#view.isReadByKey(kind, id) && !this.isUnreadable(kind, id)) this.expect(kind, id);
    return stored?.value;
  }

  getLikelyNew<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined {
    try {
      return this.get(kind, id);
    } catch (error) {
      if (!(error instanceof MustRead)) throw error;
      if (!this.#cellsOf(kind).has(id)) {
        this.#set(kind, id, { seenRevision: 0n, value: undefined, isWritten: false });
      }
      return undefined;
    }
  }

  readAhead(kind: EntryKind, ids: Iterable<string>): void {
    const requests: ReadRequest[] = [];
    for (const id of ids) {
      try {
        this.#view.get(kind, id);
      } catch (error) {
        if (!(error instanceof MustRead)) throw error;
        requests.push(...error.requests);
      }
    }
    if (requests.length > 0) throw new MustRead(...requests);
  }

  entries<K extends EntryKind>(kind: K): Iterable<readonly [id: string, value: EntryValue<K>]> {
    if (entryTypeOf[kind].isObserved) this.#observe(kind, { idPrefix: '' });
    return this.#entries(kind);
  }

  *#entries<K extends EntryKind>(kind: K): Iterable<readonly [id: string, value: EntryValue<K>]> {
    const cells = this.#cellsOf(kind);
    for (const [id, { value }] of this.#view.list(kind)) {
      if (cells.get(id)?.isWritten !== true) yield [id, value];
    }
    for (const [id, { value, isWritten }] of cells) {
      if (isWritten && value !== undefined) yield [id, value];
    }
  }

  brief<K extends BriefKind>(kind: K, id: string): BriefValue<K> | undefined {
    const cell = this.#cellsOf(kind).get(id);
    if (cell?.isWritten !== true) return this.#view.brief(kind, id);
    return cell.value && briefTypeOf[kind].of(cell.value);
  }

  briefs<K extends BriefKind>(kind: K): Iterable<readonly [id: string, brief: BriefValue<K>]> {
    if (entryTypeOf[kind].isObserved) this.#observe(kind, { idPrefix: '' });
    return this.#briefs(kind);
  }

  *#briefs<K extends BriefKind>(kind: K): Iterable<readonly [id: string, brief: BriefValue<K>]> {
    const cells = this.#cellsOf(kind);
    for (const [id, brief] of this.#view.briefs(kind)) {
      if (cells.get(id)?.isWritten !== true) yield [id, brief];
    }
    for (const [id, { value, isWritten }] of cells) {
      if (isWritten && value !== undefined) yield [id, briefTypeOf[kind].of(value)];
    }
  }

  group<K extends EntryKind>(
    kind: K,
    group: string,
  ): Iterable<readonly [id: string, value: EntryValue<K>]> {
    // The ids of an observed kind begin with their group.
    if (entryTypeOf[kind].isObserved) this.#observe(kind, { idPrefix: `${group}/` });
    return this.#group(kind, group);
  }

  *#group<K extends EntryKind>(
    kind: K,
    group: string,
  ): Iterable<readonly [id: string, value: EntryValue<K>]> {
    const cells = this.#cellsOf(kind);
    for (const id of this.#view.group(kind, group)) {
      if (cells.get(id)?.isWritten === true) continue;
      const value = this.get(kind, id);
      // An entry that had to be read may have moved to another group.
      const isOfGroup = value !== undefined && entryTypeOf[kind].groups(id, value).includes(group);
      if (isOfGroup) yield [id, value];
    }
    for (const [id, { value, isWritten }] of cells) {
      if (!isWritten || value === undefined) continue;
      if (entryTypeOf[kind].groups(id, value).includes(group)) yield [id, value];
    }
  }

  #cellsOf<K extends EntryKind>(kind: K): Map<string, Cell<EntryValue<K>>> {
    this.#cells[kind] ??= new Map();
    return this.#cells[kind];
  }

  put<K extends EntryKind>(kind: K, id: string, value: EntryValue<K>): void {
    this.#write(kind, id, { value });
  }

  remove(kind: EntryKind, id: string): void {
    if (this.get(kind, id) !== undefined) this.#write(kind, id, { value: undefined });
  }

  unreadable(kind: EntryKind): ReadonlyMap<string, string> {
    return new Map([...this.#view.allUnreadable(kind)].map(([id, { why }]) => [id, why]));
  }

  isUnreadable(kind: EntryKind, id: string): boolean {
    return this.#view.unreadable(kind, id) !== undefined;
  }

  discardUnreadable(kind: EntryKind, id: string): void {
    const seenRevision = this.#view.unreadable(kind, id)?.modRevision;
    if (seenRevision === undefined) return;
    this.#set(kind, id, { seenRevision, value: undefined, isWritten: true });
  }

  expect(kind: EntryKind, id: string): void {
    if (this.#cellsOf(kind).has(id)) return;
    this.#set(kind, id, {
      seenRevision: this.#seenRevision(kind, id),
      value: undefined,
      isWritten: false,
    });
  }

  expectNoNew(kind: EntryKind, idPrefix: string): void {
    this.#observe(kind, { idPrefix, isOfNewKeys: true });
  }

  #observe(
    kind: EntryKind,
    {
      idPrefix,
      isOfNewKeys = false,
    }: { readonly idPrefix: string; readonly isOfNewKeys?: boolean },
  ): void {
    const prefix = entryTypeOf[kind].key(idPrefix);
    const id = `${isOfNewKeys ? 'new' : 'all'} ${prefix}`;
    if (this.#ranges.has(id)) return;
    this.#ranges.set(id, { prefix, isOfNewKeys });
    this.#undo.push(() => this.#ranges.delete(id));
  }

  written<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined {
    return this.#cellsOf(kind).get(id)?.value;
  }

  transaction(): Transaction {
    const compares: Compare[] = [];
    const writes: Write[] = [];
    for (const kind of entryKinds) this.#collect(kind, compares, writes);
    const afterRevision = this.#revision;
    const ranges = [...this.#ranges.values()].map((range) => ({ ...range, afterRevision }));
    return { compares, ranges, writes };
  }

  /** Returns a savepoint. */
  save(): number {
    return this.#undo.length;
  }

  /** Undoes all changes since the savepoint. */
  restore(savepoint: number): void {
    for (const undo of this.#undo.splice(savepoint).toReversed()) undo();
  }

  #write<K extends EntryKind>(
    kind: K,
    id: string,
    { value }: { readonly value: EntryValue<K> | undefined },
  ): void {
    const seenRevision = this.#cellsOf(kind).get(id)?.seenRevision ?? this.#seenRevision(kind, id);
    this.#set(kind, id, { seenRevision, value, isWritten: true });
  }

  #set<K extends EntryKind>(kind: K, id: string, cell: Cell<EntryValue<K>>): void {
    const cells = this.#cellsOf(kind);
    const before = cells.get(id);
    cells.set(id, cell);
    const isNewlyWritten = cell.isWritten && before?.isWritten !== true;
    if (before === undefined) this.#touchedKeys++;
    if (isNewlyWritten) this.#writtenKeys++;
    this.#undo.push(() => {
      if (isNewlyWritten) this.#writtenKeys--;
      if (before !== undefined) {
        cells.set(id, before);
        return;
      }
      cells.delete(id);
      this.#touchedKeys--;
    });
  }

  /** Throws `datastore/corrupt` for a value that cannot be read: no plan may depend on an unknown value. */
  #seenRevision(kind: EntryKind, id: string): bigint {
    const why = this.#view.unreadable(kind, id)?.why;
    if (why !== undefined) {
      throw new CalicoError('datastore/corrupt', { key: entryTypeOf[kind].key(id), why });
    }
    return this.#view.get(kind, id)?.modRevision ?? 0n;
  }

  #collect<K extends EntryKind>(kind: K, compares: Compare[], writes: Write[]): void {
    for (const [id, { seenRevision, value, isWritten }] of this.#cellsOf(kind)) {
      const key = entryTypeOf[kind].key(id);
      compares.push({ key, modRevision: seenRevision });
      // A key that the group both created and removed never existed: compare only, do not write.
      if (!isWritten || (value === undefined && seenRevision === 0n)) continue;
      const lease = value && entryTypeOf[kind].leaseOf(value);
      writes.push({
        key,
        value: value === undefined ? undefined : entryTypeOf[kind].encode(value),
        ...(lease === undefined ? {} : { lease }),
      });
    }
  }
}
