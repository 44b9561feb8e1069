import type { BriefKind, BriefValue } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';

/**
 * The state that a plan reads and changes: the mirror, with the changes of this group commit on top. Every put or
 * removal is compared with the state read, so a plan never overwrites a change that it has not read.
 */
export interface Draft {
  /** Returns the value, with the changes of this and earlier plans of the group. */
  get<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined;

  /**
   * As `get`, for an entry that most likely does not exist: unless it is cached, it is assumed to be absent without a
   * read. The commit holds only if it is absent.
   */
  getLikelyNew<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined;

  /** Reads entries for later calls of `get` in one request, unless they are cached. */
  readAhead(kind: EntryKind, ids: Iterable<string>): void;

  /**
   * Returns all values of a kind, with the changes of the group. For an `observed` kind (see `entryTypes`) the commit
   * holds only if none was created or changed in the meantime, so that a plan may rely on the absence of one; for
   * others see `expectNoNew`.
   */
  entries<K extends EntryKind>(kind: K): Iterable<readonly [id: string, value: EntryValue<K>]>;

  /**
   * What an entry says in brief: for whether it is there, and what it is like, without the whole being read. The commit
   * does not rest on it: whoever decides by it looks at the whole then, or says what it expects.
   */
  brief<K extends BriefKind>(kind: K, id: string): BriefValue<K> | undefined;

  /** All of a kind in brief, with the changes of the round; see `brief`. */
  briefs<K extends BriefKind>(kind: K): Iterable<readonly [id: string, brief: BriefValue<K>]>;

  /** Returns the values of one group of a kind (see `entryTypes`); changes and observation as in `entries`. */
  group<K extends EntryKind>(
    kind: K,
    group: string,
  ): Iterable<readonly [id: string, value: EntryValue<K>]>;

  /** Sets the value; the value given must not be changed afterwards. */
  put<K extends EntryKind>(kind: K, id: string, value: EntryValue<K>): void;

  /** Removes the entry; does nothing if it is absent. */
  remove(kind: EntryKind, id: string): void;

  /** Returns the unreadable values of a kind, by id, with the reason: absent here, but never overwritten. */
  unreadable(kind: EntryKind): ReadonlyMap<string, string>;

  /** Reports whether the stored value is unreadable: absent here, but never overwritten. */
  isUnreadable(kind: EntryKind, id: string): boolean;

  /** Removes an unreadable value, or allows a later put to replace it, on request of the user. */
  discardUnreadable(kind: EntryKind, id: string): void;

  /** The commit holds only if this entry is unchanged since it was read here; also if it is absent. */
  expect(kind: EntryKind, id: string): void;

  /**
   * The commit holds only if no entry of the kind with this id prefix was created since it was read here: for a
   * decision that relies on the absence of entries. Changes and removals do not affect it. The prefix must be narrow,
   * because the store checks each such entry.
   */
  expectNoNew(kind: EntryKind, idPrefix: string): void;
}

/** The result of a plan, and the revision of its changes; without changes the revision that was read. */
export interface Written<Result> {
  readonly result: Result;
  readonly revision: bigint;
}

/**
 * Writes by plans: pure functions that change the present state. Plans that arrive during a transaction
 * run one after the other on one draft and are committed together, so sixty-four callers cost
 * one transaction. If the commit conflicts with another write, the mirror is brought up to date and all plans
 * of the group run again; therefore a plan must have no effects except on its draft.
 */
export interface Writer {
  /**
   * Runs the plan and resolves when its changes are durable, mostly also readable in the mirror; later plans
   * always read them. A plan that throws rejects this call alone and leaves no changes in the
   * group. Throws `datastore/unavailable`, `datastore/too-large`, `datastore/locked` or, after too many attempts,
   * `datastore/contended` if it was certainly not applied; `datastore/outcome-unknown` otherwise.
   */
  write<Result>(plan: (draft: Draft) => Result, signal: AbortSignal): Promise<Written<Result>>;
}

/** A writer for retries, which can wait for another plan. */
export interface RetryingWriter extends Writer {
  /** As `write`, but together with the next plan of any caller, or alone if none arrives within `atMostMs`. */
  writeWithNext<Result>(
    plan: (draft: Draft) => Result,
    signal: AbortSignal,
    atMostMs: number,
  ): Promise<Written<Result>>;
}
