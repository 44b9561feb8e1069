import type { BriefKind, BriefValue } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import type { CommitResult, Transaction } from '../datastore/datastore.ts';
import type { Stored, Unreadable, View } from './view.ts';

/** A write or removal (`now` is `undefined`) of an entry that is cached whole. */
export type EntryChange<K extends EntryKind = EntryKind> = {
  readonly [P in K]: {
    readonly kind: P;
    readonly id: string;
    readonly before: Stored<EntryValue<P>> | undefined;
    readonly now: Stored<EntryValue<P>> | undefined;
  };
}[K];

/**
 * The new state of an entry that is cached in brief; `undefined`: it was removed. An entry that becomes cached whole is
 * reported as an `EntryChange` alone; one that is no longer cached whole is first reported as removed there.
 */
export type BriefChange<K extends BriefKind = BriefKind> = {
  readonly [P in K]: {
    readonly kind: P;
    readonly id: string;
    readonly brief: BriefValue<P> | undefined;
  };
}[K];

/** All changes up to a revision; the first batch after a new listing contains all differences. */
export interface EntryChanges {
  readonly revision: bigint;
  /** Whether the changes come from the datastore; otherwise from a snapshot. */
  readonly isLive: boolean;
  readonly changes: readonly EntryChange[];
  /** Changes of entries that are cached in brief. */
  readonly briefs: readonly BriefChange[];
}

/**
 * The result of a commit. If the watch has not reported it to the mirror yet, `whenHere` is set: it resolves when the
 * outcome can be read and rejects with the signal's reason.
 */
export type MirroredResult = CommitResult & {
  readonly whenHere?: (signal: AbortSignal) => Promise<void>;
};

/** The typed values that a transaction writes. */
export interface WrittenValues {
  written<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined;
}

/**
 * A view that plans can be committed on. A commit throws the errors of the datastore, and none once it has returned.
 */
export interface Base extends View {
  /**
   * Commits, and waits a limited time until the outcome can be read from this view: the writes of the transaction, or
   * those that conflicted with it. If given, `values` become the values of the view without parsing the texts.
   */
  commit(
    transaction: Transaction,
    signal: AbortSignal,
    values?: WrittenValues,
  ): Promise<MirroredResult>;

  /** Whether all cached entries are of one revision. */
  readonly isWhole: boolean;

  /** Resolves when all cached entries are of one revision; rejects with the signal's reason. */
  whole(signal: AbortSignal): Promise<void>;
}

/**
 * A copy of the datastore in memory, updated by one watch: reading costs no round trip. Values that cannot be decoded
 * are treated as absent and reported by `unreadableValues`. Reading throws `datastore/not-in-sync` before the first listing.
 */
export interface Mirror extends Base {
  /**
   * Whether the mirror can be read: after the first listing, or with a snapshot until then. Later outages do not change
   * that: the last state remains.
   */
  readonly inSync: boolean;

  /** The mirror has all writes up to this revision. */
  readonly revision: bigint;

  /** Returns all entries of a kind that are cached whole, by id; live, as `list`. */
  cached<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<EntryValue<K>>>;

  /** Returns all entries of a kind that are cached in brief only, by id; live, as `list`. */
  cachedInBrief<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<BriefValue<K>>>;

  /**
   * Resolves when the datastore has been listed and the mirror has all writes up to the revision; rejects with the
   * signal's reason.
   */
  reached(revision: bigint, signal: AbortSignal): Promise<void>;

  /** Calls the listener for every batch, in order, after the mirror has it; returns a function that unsubscribes. */
  subscribe(listener: (changes: EntryChanges) => void): () => void;

  /** Returns the stored values of all kinds that cannot be read, by key; live, as `list`. */
  unreadableValues(): ReadonlyMap<string, Unreadable>;
}
