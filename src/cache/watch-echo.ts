import type { CommitResult, Compare, Transaction } from '../datastore/datastore.ts';

/** The state of a mirror by which a commit recognizes that the watch has reported its outcome. */
export interface WatchEcho {
  /** Whether the datastore has been listed. */
  readonly isLive: boolean;
  readonly revision: bigint;
  /** Reports whether the value of a key, or its absence, is known. */
  isCached(key: string): boolean;
  modRevisionOf(key: string): bigint;
}

/**
 * Returns a check that is true when the mirror has all writes of a transaction. Usually the revision decides; for a
 * removal whose response was lost only an upper bound of the revision is known, so a change of its keys also counts.
 */
export function isWrittenHere(
  here: WatchEcho,
  { compares, writes }: Transaction,
  revision: bigint,
): () => boolean {
  const written = new Set(writes.map(({ key }) => key));
  const changed = compares.filter(({ key }) => written.has(key) && here.isCached(key));
  return () =>
    here.isLive &&
    (here.revision >= revision ||
      (changed.length > 0 && changed.every((one) => differs(here, one))));
}

/**
 * Returns a check that is true when the mirror has the changes that caused a conflict: of every cached key that had
 * changed, and of the compared ranges. The datastore's revision cannot be used: etcd also counts writes to keys outside
 * the watched prefix.
 */
export function isConflictHere(
  here: WatchEcho,
  { compares }: Transaction,
  { current, newestInRanges = 0n }: CommitResult & { readonly kind: 'conflict' },
): () => boolean {
  const changed = compares.filter(
    ({ key, modRevision }) =>
      (current.get(key)?.modRevision ?? 0n) !== modRevision && here.isCached(key),
  );
  // A key that was created and removed since is absent again: only the revision of its write tells.
  const isHere = (one: Compare) =>
    differs(here, one) || here.revision >= (current.get(one.key)?.modRevision ?? endless);
  return () => here.revision >= newestInRanges && changed.every(isHere);
}

/** More than any revision: of a key that was removed no revision is known. */
const endless = 1n << 64n;

function differs(here: WatchEcho, { key, modRevision }: Compare): boolean {
  return here.modRevisionOf(key) !== modRevision;
}
