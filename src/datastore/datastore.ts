/**
 * The one interface of both stores (etcd, SQLite): keys and texts, one revision that counts all writes,
 * transactions that compare before they write, and a complete watch.
 *
 * Semantics are etcd's (etcd API v3, KV and Watch); the SQLite store follows them. Every write compares.
 */

/** A stored value. `modRevision` is the store's revision of its last write. */
export interface KeyValue {
  readonly key: string;
  readonly value: string;
  readonly modRevision: bigint;
}

/** Holds if the key's last write was at this revision; `0n`: if the key does not exist. */
export interface Compare {
  readonly key: string;
  readonly modRevision: bigint;
}

/**
 * Holds if no key with the prefix was written after the revision: none was created or changed. Removals are not
 * detected; they do not affect a decision that relies on the absence of a key. Both stores check every key of the
 * prefix, so it must be narrow.
 */
export interface RangeCompare {
  readonly prefix: string;
  readonly afterRevision: bigint;
  /**
   * Only new keys count, for a decision that changes of existing keys do not affect. A store need not distinguish
   * the two (SQLite does not): the comparison then holds less often.
   */
  readonly isOfNewKeys?: boolean;
}

/** A new value for a key, or its removal (`undefined`). */
export interface Write {
  readonly key: string;
  readonly value: string | undefined;
  /** The key is removed when this lease expires. */
  readonly lease?: string;
}

/**
 * Leases, which expire unless they are renewed: their keys exist while a process lives. All methods throw
 * `datastore/unavailable`.
 */
export interface Leases {
  /** Returns a lease that expires after so many seconds. */
  grant(seconds: number): Promise<string>;
  /** Renews a lease for its whole time; returns whether it still existed. */
  renew(lease: string): Promise<boolean>;
  /** Returns the seconds since a lease was granted or renewed; `undefined`: it has expired. */
  ageSeconds(lease: string): Promise<number | undefined>;
  /** Ends a lease and removes its keys. */
  revoke(lease: string): Promise<void>;
}

/** All writes, or none if one comparison fails. A key may be written once; removing an absent key is no error. */
export interface Transaction {
  readonly compares: readonly Compare[];
  readonly ranges?: readonly RangeCompare[];
  readonly writes: readonly Write[];
}

export type CommitResult =
  /** Applied; every key written has this revision. For removals whose response was lost it is the latest possible. */
  | { readonly kind: 'committed'; readonly revision: bigint }
  /**
   * Not applied; the values of the compared keys (absent keys are not in the map), and the newest write in a compared
   * range after its revision, if any; read in the same step.
   */
  | {
      readonly kind: 'conflict';
      readonly revision: bigint;
      readonly current: ReadonlyMap<string, KeyValue>;
      readonly newestInRanges?: bigint;
    };

/** A cluster by its ID, and a revision that it had reached. */
export interface KnownCluster {
  readonly cluster: string;
  readonly reached: bigint;
}

/** The existing keys among some, or below a prefix, at one revision. */
export interface Listing {
  readonly revision: bigint;
  readonly items: readonly KeyValue[];
}

/** Some of the keys of a listing; a store may read them while they are iterated. */
export interface Page {
  readonly revision: bigint;
  readonly items: Iterable<KeyValue>;
  /** The same, if the store has the values as bytes: of most of them, not all has to become text. */
  readonly encoded?: Iterable<EncodedKeyValue>;
}

/**
 * A key and its value in UTF-8: the bytes from `keyStart` to before `keyEnd`, and from `start` to before `end`. Do not
 * keep it: they are a part of a page.
 */
export interface EncodedKeyValue {
  readonly modRevision: bigint;
  readonly bytes: Buffer;
  readonly keyStart: number;
  readonly keyEnd: number;
  readonly start: number;
  readonly end: number;
}

/** Returns the key as text, which is mostly not wanted. */
export function decodeKey({ bytes, keyStart, keyEnd }: EncodedKeyValue): string {
  return bytes.toString('utf8', keyStart, keyEnd);
}

/** Returns the value as text. */
export function decodeText({ bytes, start, end }: EncodedKeyValue): string {
  return bytes.toString('utf8', start, end);
}

/** One key written (`value`) or removed (`undefined`) at `modRevision`. */
export interface KeyChange {
  readonly key: string;
  readonly value: string | undefined;
  readonly modRevision: bigint;
}

/** All changes up to a revision since the batch before; a transaction is never split over two batches. */
export interface ChangeBatch {
  readonly revision: bigint;
  readonly changes: readonly KeyChange[];
}

export interface Datastore {
  /** Location for messages: a URL list or a file. */
  readonly endpoint: string;

  /** The identity of the cluster, whatever its endpoints; `undefined` until it has responded, and in a store of one host. */
  readonly cluster?: string | undefined;
  /** A revision of the cluster's own counter that it has certainly reached; absent in a store of one host. */
  readonly reached?: bigint;

  /**
   * Calls the listener when the store turns out to be another one than before: an etcd that was restored from a backup,
   * or a cluster that replaced it. Its revisions do not continue those before; watches end.
   */
  readonly onReplaced?: ((listener: () => void) => void) | undefined;

  /** Absent in a store of one host. */
  readonly leases?: Leases | undefined;

  /**
   * Returns the values of some keys at one revision; absent keys are not among the items. Throws
   * `datastore/unavailable` within the store's deadline (for etcd 2 s per endpoint, at most 6 s) if there is no response.
   */
  read(keys: readonly string[], signal: AbortSignal): Promise<Listing>;

  /**
   * Yields all keys below a prefix, in key order and at one revision, in pages small enough not to block other work;
   * at least one page. A store may omit keys below the prefixes of `without`, which are below the prefix. Throws
   * `datastore/unavailable`.
   */
  pages(prefix: string, signal: AbortSignal, without?: readonly string[]): AsyncIterable<Page>;

  /**
   * Throws `datastore/unavailable` if it was certainly not applied, `datastore/outcome-unknown` if the connection was
   * lost and reading back did not determine the outcome. The store never applies it twice.
   */
  commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult>;

  /**
   * Yields changes below the prefix after the given revision, in order. Throws `datastore/watch-lost` if the history
   * (compaction) or the connection is lost; returns when the signal is aborted.
   */
  watch(prefix: string, afterRevision: bigint, signal: AbortSignal): AsyncIterable<ChangeBatch>;

  /**
   * Reports whether the store still has a write in its history: a watch after its revision then misses nothing. False
   * after a compaction, and in a store that was restored or replaced. Absent in a store whose watch ends for no other
   * reason. Throws `datastore/unavailable`.
   */
  hasWritten?(write: KeyValue, signal: AbortSignal): Promise<boolean>;

  /** What this host knew of the cluster before it started, so that a replacement is recognized. */
  expectCluster?(known: KnownCluster): void;

  /**
   * Connects anew to these endpoints of the same etcd, with the present contents of the certificate files; watches go
   * on without a new listing. Absent in a store without endpoints. Throws `datastore/bad-file`; nothing has changed then.
   */
  reconnect?(endpoints: readonly string[]): Promise<void>;

  /** Ends watches and connections; idempotent. */
  close(): Promise<void>;
}

/** Returns all pages as one; for prefixes with few keys. */
export async function listAll(
  datastore: Pick<Datastore, 'pages'>,
  prefix: string,
  signal: AbortSignal,
): Promise<Listing> {
  const items: KeyValue[] = [];
  let revision = 0n;
  for await (const page of datastore.pages(prefix, signal)) {
    revision = page.revision;
    for (const item of page.items) items.push(item);
  }
  return { revision, items };
}
