import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import type { CommitResult, Datastore, Transaction } from '../datastore/datastore.ts';

/** A typed value of the datastore with the revision of its last write. */
export interface Stored<Value> {
  readonly id: string;
  readonly value: Value;
  readonly modRevision: bigint;
}

/** One entry that was written or removed (`now` is `undefined`). */
export type EntryChange<K extends EntryKind = EntryKind> = {
  readonly [P in K]: {
    readonly kind: P;
    readonly id: string;
    readonly before: Stored<EntryValue<P>> | undefined;
    readonly now: Stored<EntryValue<P>> | undefined;
  };
}[K];

/** Everything that changed up to a revision; the first batch after a new listing holds all differences. */
export interface EntryChanges {
  readonly revision: bigint;
  /** Whether the datastore itself said so, and not a snapshot. */
  readonly isLive: boolean;
  readonly changes: readonly EntryChange[];
}

/**
 * What became of a commit. That the mirror has not been told of it yet says nothing of its fate: then `whenHere`
 * is there, and resolves when its outcome can be read; rejects with the signal's reason.
 */
export type MirroredResult = CommitResult & {
  readonly whenHere?: (signal: AbortSignal) => Promise<void>;
};

/** The typed values that a transaction writes. */
export interface WrittenValues {
  written<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined;
}

/**
 * The whole datastore in memory, kept current by one watch: reading costs no round trip. What cannot be
 * decoded is treated as absent and reported by `problems`.
 */
export interface Mirror {
  readonly datastore: Datastore;

  /**
   * Whether there is something to read: the first listing, or until it comes a snapshot. Later outages do not
   * clear it: the last state stays.
   */
  readonly inSync: boolean;

  /** All writes up to here are in. */
  readonly revision: bigint;

  /** Throws `datastore/not-in-sync` before the first listing. */
  get<K extends EntryKind>(kind: K, id: string): Stored<EntryValue<K>> | undefined;

  /** By id. Throws `datastore/not-in-sync` before the first listing. The map is live: do not keep it. */
  list<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<EntryValue<K>>>;

  /** The ids of one group of a kind (see `entryTypes`); live, so not to be kept. */
  group(kind: EntryKind, group: string): ReadonlySet<string>;

  /** Resolves when the datastore has been listed and all writes up to the revision are in; rejects with the signal's reason. */
  reached(revision: bigint, signal: AbortSignal): Promise<void>;

  /**
   * Commits, and waits for some time until the outcome can be read here: our own writes, or what made them
   * conflict. Throws what the datastore does, and nothing once that has answered. The values that the texts were
   * made from, if given, become those of the mirror, without being parsed again.
   */
  commit(
    transaction: Transaction,
    signal: AbortSignal,
    values?: WrittenValues,
  ): Promise<MirroredResult>;

  /** Calls the listener for every batch, in order, after the mirror holds it; answers the way to stop. */
  subscribe(listener: (changes: EntryChanges) => void): () => void;

  /** Stored values that cannot be read, by key, with the reason. */
  problems(): ReadonlyMap<string, string>;

  /** The revision of a stored value that cannot be read; 0 for any other key. */
  unreadableRevision(key: string): bigint;
}
