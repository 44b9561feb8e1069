import type { BriefKind, BriefValue } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import type { CommitResult, Transaction } from '../datastore/datastore.ts';
import type { Stored, View } from './view.ts';

/** One entry that was written or removed (`now` is `undefined`), of those that are held whole. */
export type EntryChange<K extends EntryKind = EntryKind> = {
  readonly [P in K]: {
    readonly kind: P;
    readonly id: string;
    readonly before: Stored<EntryValue<P>> | undefined;
    readonly now: Stored<EntryValue<P>> | undefined;
  };
}[K];

/**
 * One entry that is held in brief, as it is now; `undefined`: it is gone. One that comes to be held whole is told as such
 * alone; one that ceases to be is gone as such first.
 */
export type BriefChange<K extends BriefKind = BriefKind> = {
  readonly [P in K]: {
    readonly kind: P;
    readonly id: string;
    readonly brief: BriefValue<P> | undefined;
  };
}[K];

/** Everything that changed up to a revision; the first batch after a new listing holds all differences. */
export interface EntryChanges {
  readonly revision: bigint;
  /** Whether the datastore itself said so, and not a snapshot. */
  readonly isLive: boolean;
  readonly changes: readonly EntryChange[];
  /** What changed of what is held in brief. */
  readonly briefs: readonly BriefChange[];
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
 * A view that plans can be committed on. A commit throws what the datastore does, and nothing once that has answered.
 */
export interface Base extends View {
  /**
   * Commits, and may wait for some time until the outcome can be read here: our own writes, or what made them
   * conflict. The values that the texts were made from, if given, become those of the view, without being parsed again.
   */
  commit(
    transaction: Transaction,
    signal: AbortSignal,
    values?: WrittenValues,
  ): Promise<MirroredResult>;

  /** Whether all that is here is of one revision. */
  readonly isWhole: boolean;

  /** Resolves when all that is here is of one revision, and not in part of a later one; rejects with the signal's reason. */
  whole(signal: AbortSignal): Promise<void>;
}

/**
 * The datastore in memory, kept current by one watch: reading costs no round trip. What cannot be decoded is treated
 * as absent and reported by `problems`. Reading throws `datastore/not-in-sync` before the first listing.
 */
export interface Mirror extends Base {
  /**
   * Whether there is something to read: the first listing, or until it comes a snapshot. Later outages do not
   * clear it: the last state stays.
   */
  readonly inSync: boolean;

  /** All writes up to here are in. */
  readonly revision: bigint;

  /** All of a kind that is held here as a whole, by id; live, as `list`. */
  held<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<EntryValue<K>>>;

  /** All of a kind that is held here in brief alone, by id; live, as `list`. */
  heldInBrief<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<BriefValue<K>>>;

  /** Resolves when the datastore has been listed and all writes up to the revision are in; rejects with the signal's reason. */
  reached(revision: bigint, signal: AbortSignal): Promise<void>;

  /** Calls the listener for every batch, in order, after the mirror holds it; answers the way to stop. */
  subscribe(listener: (changes: EntryChanges) => void): () => void;

  /** Stored values that cannot be read, by key, with the reason. */
  problems(): ReadonlyMap<string, string>;
}
