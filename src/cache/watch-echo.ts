import type { CommitResult, Compare, Transaction } from '../datastore/datastore.ts';

/** How far a mirror is, and what it knows of keys. */
export interface WatchEcho {
  /** Whether the datastore has been listed. */
  readonly isLive: boolean;
  readonly revision: bigint;
  /** Whether what a key holds, or that it is absent, is known. */
  isHeld(key: string): boolean;
  modRevisionOf(key: string): bigint;
}

/**
 * Holds when all that a transaction wrote is in. Mostly the revision tells; that of a removal whose answer was lost is
 * known only to be no later, and it is in when the keys have changed.
 */
export function isWrittenHere(
  here: WatchEcho,
  { compares, writes }: Transaction,
  revision: bigint,
): () => boolean {
  const written = new Set(writes.map(({ key }) => key));
  const changed = compares.filter(({ key }) => written.has(key) && here.isHeld(key));
  return () =>
    here.isLive &&
    (here.revision >= revision ||
      (changed.length > 0 && changed.every((one) => differs(here, one))));
}

/**
 * Holds when every key that had changed, and is held, has changed here, too, and what was written in a range is here.
 * The store's revision would not do: etcd counts writes that concern none of our keys, of which the watch tells
 * nothing.
 */
export function isConflictHere(
  here: WatchEcho,
  { compares }: Transaction,
  { current, newestInRanges = 0n }: CommitResult & { readonly kind: 'conflict' },
): () => boolean {
  const changed = compares.filter(
    ({ key, modRevision }) =>
      (current.get(key)?.modRevision ?? 0n) !== modRevision && here.isHeld(key),
  );
  return () => here.revision >= newestInRanges && changed.every((one) => differs(here, one));
}

function differs(here: WatchEcho, { key, modRevision }: Compare): boolean {
  return here.modRevisionOf(key) !== modRevision;
}
