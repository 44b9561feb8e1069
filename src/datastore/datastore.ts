/**
 * The one interface of both stores (etcd, SQLite): keys and texts, one revision that counts all writes,
 * transactions that compare before they write, and a watch that misses nothing.
 *
 * Semantics are etcd's (etcd API v3, KV and Watch); the SQLite store keeps to them. Every write compares.
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
 * Holds if no key that begins with the prefix was written after the revision: nothing new came, nothing that is
 * there changed. Removals are not noticed; a decision that something is *not* there stands without it. Both
 * stores look at every key of the prefix, so it is to be a narrow one.
 */
export interface RangeCompare {
  readonly prefix: string;
  readonly afterRevision: bigint;
  /**
   * Only keys that are new count, for a decision that what is there may change without harm. A store need not tell
   * the two apart (SQLite does not): it then holds less often.
   */
  readonly isOfNewKeys?: boolean;
}

/** A new value for a key, or its removal (`undefined`). */
export interface Write {
  readonly key: string;
  readonly value: string | undefined;
}

/** All writes, or none if one comparison fails. A key may be written once; removing an absent key is no error. */
export interface Transaction {
  readonly compares: readonly Compare[];
  readonly ranges?: readonly RangeCompare[];
  readonly writes: readonly Write[];
}

export type CommitResult =
  /** Applied; every key written has this revision. Of removals whose answer was lost it is the latest possible. */
  | { readonly kind: 'committed'; readonly revision: bigint }
  /**
   * Not applied; what the compared keys hold (absent keys are not in the map), and the newest write in a compared
   * range after its revision, if there is one; read in the same step.
   */
  | {
      readonly kind: 'conflict';
      readonly revision: bigint;
      readonly current: ReadonlyMap<string, KeyValue>;
      readonly newestInRanges?: bigint;
    };

/** What there is of some keys, or below a prefix, at one revision. */
export interface Listing {
  readonly revision: bigint;
  readonly items: readonly KeyValue[];
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
  /** Where it is, for messages: a URL list or a file. */
  readonly endpoint: string;

  /**
   * What some keys hold at one revision; absent keys are not among the items. Throws `datastore/unavailable` within the
   * store's deadline (2 s for etcd) if nothing answers.
   */
  read(keys: readonly string[], signal: AbortSignal): Promise<Listing>;

  /**
   * All that is below a prefix, in key order and at one revision, in pieces that are small enough to be worked on
   * between other things; at least one. A store may leave out what lies below the prefixes of `without`, which are
   * below the prefix. Throws `datastore/unavailable`.
   */
  pages(prefix: string, signal: AbortSignal, without?: readonly string[]): AsyncIterable<Listing>;

  /**
   * Throws `datastore/unavailable` if it was certainly not applied, `datastore/outcome-unknown` if the store
   * broke off and a reading back did not tell. Never repeated by the store itself.
   */
  commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult>;

  /**
   * Changes below the prefix after the given revision, in order. Ends with `datastore/watch-lost` where the
   * history is gone (compaction) or the connection is; ends quietly when the signal is aborted.
   */
  watch(prefix: string, afterRevision: bigint, signal: AbortSignal): AsyncIterable<ChangeBatch>;

  /** Ends watches and connections; idempotent. */
  close(): Promise<void>;
}

/** All pages as one; for prefixes that hold little. */
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
