import type { EntryKind, EntryValue } from '../model/kinds/index.ts';

/**
 * The state that a plan reads and changes: the mirror, with the changes of this round on top. Whatever is
 * put or removed is compared with what was seen, so a plan never overwrites what it has not read.
 */
export interface Draft {
  /** The value, with the changes that this and earlier plans of the round made. */
  get<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined;

  /**
   * As `get`, for what is most likely not there yet: it is taken to be absent without being looked for, unless it is at
   * hand. The commit holds only if that is so.
   */
  getLikelyNew<K extends EntryKind>(kind: K, id: string): EntryValue<K> | undefined;

  /** Has entries read together that `get` will ask for, where they are not at hand. */
  readAhead(kind: EntryKind, ids: Iterable<string>): void;

  /**
   * All values of a kind, with the changes of the round. Of a kind that is `observed` (see `entryTypes`) the commit
   * holds only if nobody has made or changed one meanwhile, so that a plan may rest on what is not among them; of
   * others see `expectNoNew`.
   */
  entries<K extends EntryKind>(kind: K): Iterable<readonly [id: string, value: EntryValue<K>]>;

  /** The values of one group of a kind (see `entryTypes`), with the changes of the round; observed as `entries`. */
  group<K extends EntryKind>(
    kind: K,
    group: string,
  ): Iterable<readonly [id: string, value: EntryValue<K>]>;

  /** Sets the value; the value given must not be changed afterwards. */
  put<K extends EntryKind>(kind: K, id: string, value: EntryValue<K>): void;

  /** Removes the entry; removing what is absent does nothing. */
  remove(kind: EntryKind, id: string): void;

  /** Stored values of a kind that cannot be read, by id, with the reason: absent here, but never written over. */
  unreadable(kind: EntryKind): ReadonlyMap<string, string>;

  /** Whether there is a stored value that cannot be read: absent here, but never written over. */
  isUnreadable(kind: EntryKind, id: string): boolean;

  /** Removes a stored value that cannot be read, or makes way for one that is put after this: a person said so. */
  discardUnreadable(kind: EntryKind, id: string): void;

  /** The commit holds only if this entry still is as it was read here, absent ones included. */
  expect(kind: EntryKind, id: string): void;

  /**
   * The commit holds only if of the kind nothing whose id begins so is new since it was read here: for a decision
   * that rests on what is not there. Changes and removals do no harm to it. To be narrow, for the store looks at each
   * such entry.
   */
  expectNoNew(kind: EntryKind, idPrefix: string): void;
}

/** What a plan answered, and the revision that has its changes; without changes the one that was read. */
export interface Written<Result> {
  readonly result: Result;
  readonly revision: bigint;
}

/**
 * Writes by plans: pure functions of the present state that change it. Plans that arrive while a transaction
 * is under way are run one after the other on one draft and committed together, so sixty-four callers cost
 * one transaction. If the commit meets somebody else's write, the mirror is brought up to date and all plans
 * of the round run again; a plan must therefore have no effects but on its draft.
 */
export interface Writer {
  /**
   * Runs the plan and resolves when its changes are durable, mostly also readable in the mirror; plans that come
   * later read them in any case. A plan that throws rejects this call alone and leaves nothing of its own in the
   * round. Throws `datastore/unavailable`, `datastore/too-large`, `datastore/locked` or, after too many rounds,
   * `datastore/contended` if it was certainly not carried out, `datastore/outcome-unknown` else.
   */
  write<Result>(plan: (draft: Draft) => Result, signal: AbortSignal): Promise<Written<Result>>;
}

/** A writer that can wait for company. */
export interface RetryingWriter extends Writer {
  /** As `write`, but together with the next plan that somebody writes, or by itself when none comes in `atMostMs`. */
  writeWithNext<Result>(
    plan: (draft: Draft) => Result,
    signal: AbortSignal,
    atMostMs: number,
  ): Promise<Written<Result>>;
}
