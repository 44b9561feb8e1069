import type { Datastore } from '../datastore/datastore.ts';
import type { BriefKind, BriefValue } from '../model/briefs.ts';
import { entryTypeOf, type EntryKind, type EntryValue } from '../model/kinds/index.ts';

/** A typed value of the datastore with the revision of its last write. */
export interface Stored<Value> {
  readonly id: string;
  readonly value: Value;
  readonly modRevision: bigint;
}

/** A stored value that cannot be read. */
export interface Unreadable {
  readonly why: string;
  readonly modRevision: bigint;
}

/**
 * What can be read of the datastore without waiting. What is not here is asked for by throwing `MustRead`: whoever
 * called reads it, and then calls anew. So what reads a view has no effects before it has read all.
 */
export interface View {
  readonly datastore: Datastore;

  /** All writes up to here are in; `undefined` if nothing is held here. */
  readonly revision: bigint | undefined;

  get<K extends EntryKind>(kind: K, id: string): Stored<EntryValue<K>> | undefined;

  /**
   * By id: all of a kind, or at least those whose id begins so. What cannot be read is not among them. The map is live:
   * do not keep it.
   */
  list<K extends EntryKind>(kind: K, idPrefix?: string): ReadonlyMap<string, Stored<EntryValue<K>>>;

  /** What an entry says in brief; of an endpoint or block of another host no more may be held. */
  brief<K extends BriefKind>(kind: K, id: string): BriefValue<K> | undefined;

  /** All of a kind in brief, by id; what cannot be read is not among them. */
  briefs<K extends BriefKind>(kind: K): Iterable<readonly [id: string, brief: BriefValue<K>]>;

  /** The ids of one group of a kind (see `entryTypes`); live, so not to be kept. */
  group(kind: EntryKind, group: string): ReadonlySet<string>;

  /** Why and at which revision a stored value cannot be read; `undefined` for any other. */
  unreadable(kind: EntryKind, id: string): Unreadable | undefined;

  /** All stored values of a kind that cannot be read, by id. */
  allUnreadable(kind: EntryKind): ReadonlyMap<string, Unreadable>;
}

/** What is to be read: one entry, or all of a kind whose id begins so. */
export type ReadRequest =
  | { readonly kind: EntryKind; readonly id: string }
  | { readonly kind: EntryKind; readonly idPrefix: string };

/** Thrown by a view for what has to be read from the datastore first. */
export class MustRead extends Error {
  readonly requests: readonly ReadRequest[];

  constructor(...requests: readonly ReadRequest[]) {
    super(`${requests.map(({ kind }) => kind).join()} must be read first`);
    this.requests = requests;
  }
}

/** What a group of a kind is found by in the datastore: the beginning of its ids, where that is the group. */
export function requestGroup(kind: EntryKind, group: string): ReadRequest {
  return { kind, idPrefix: groupedById.has(kind) ? `${group}/` : '' };
}

/** Kinds whose ids are `<group>/…`. */
const groupedById: ReadonlySet<EntryKind> = new Set([
  'Affinity4',
  'Affinity6',
  'DockerNetwork',
  'DockerPool',
]);

/** The key, or the beginning of the keys, of what is wanted. */
export function keyOf(request: ReadRequest): string {
  return entryTypeOf[request.kind].key('id' in request ? request.id : request.idPrefix);
}
