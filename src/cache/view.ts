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
  /** The stored text. */
  readonly text: string;
  readonly modRevision: bigint;
}

/**
 * The part of the datastore that can be read without waiting. Reading anything else throws `MustRead`: the caller reads
 * it from the datastore and calls again. Therefore code that reads a view must have no effects before its last read.
 */
export interface View {
  readonly datastore: Datastore;

  /** The view has all writes up to this revision; `undefined` if it has no cache. */
  readonly revision: bigint | undefined;

  get<K extends EntryKind>(kind: K, id: string): Stored<EntryValue<K>> | undefined;

  /**
   * Returns all entries of a kind by id, or at least those whose id begins with the prefix, without those that cannot
   * be read. The map is live: do not keep it.
   */
  list<K extends EntryKind>(kind: K, idPrefix?: string): ReadonlyMap<string, Stored<EntryValue<K>>>;

  /** Returns the brief of an entry; of endpoints and blocks of other hosts only the brief may be cached. */
  brief<K extends BriefKind>(kind: K, id: string): BriefValue<K> | undefined;

  /** Returns the briefs of all entries of a kind by id, without those that cannot be read. */
  briefs<K extends BriefKind>(kind: K): Iterable<readonly [id: string, brief: BriefValue<K>]>;

  /** Returns the ids of one group of a kind (see `entryTypes`). The set is live: do not keep it. */
  group(kind: EntryKind, group: string): ReadonlySet<string>;

  /** Returns why a stored value cannot be read, and its revision; `undefined` if it can be read or is absent. */
  unreadable(kind: EntryKind, id: string): Unreadable | undefined;

  /** Returns all stored values of a kind that cannot be read, by id. */
  allUnreadable(kind: EntryKind): ReadonlyMap<string, Unreadable>;
}

/** A request to read one entry, or all entries of a kind whose id begins with a prefix. */
export type ReadRequest =
  | { readonly kind: EntryKind; readonly id: string }
  | { readonly kind: EntryKind; readonly idPrefix: string };

/** Thrown by a view for entries that have to be read from the datastore first. */
export class MustRead extends Error {
  readonly requests: readonly ReadRequest[];

  constructor(...requests: readonly ReadRequest[]) {
    // It is caught and frequent: a stack would cost more than the plan.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(`${requests.map(({ kind }) => kind).join()} must be read first`);
    Error.stackTraceLimit = stackTraceLimit;
    this.requests = requests;
  }
}

/** Returns the request for a group of a kind: its id prefix if ids begin with the group, otherwise the whole kind. */
export function requestGroup(kind: EntryKind, group: string): ReadRequest {
  return { kind, idPrefix: groupedById.has(kind) ? `${group}/` : '' };
}

/** Kinds whose ids are `<group>/…`. */
const groupedById: ReadonlySet<EntryKind> = new Set([
  'Affinity4',
  'Affinity6',
  'DockerNetwork',
  'DockerPool',
  'NodeReport',
  'NetworkReport',
]);

/** Returns the key or the key prefix of a request. */
export function keyOf(request: ReadRequest): string {
  return entryTypeOf[request.kind].key('id' in request ? request.id : request.idPrefix);
}
