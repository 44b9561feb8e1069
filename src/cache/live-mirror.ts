import { within } from '../async/deadline.ts';
import { inSlices, Pauses } from '../async/slices.ts';
import { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import { CalicoError, describe, isCalicoError } from '../errors/error.ts';
import { briefTypeOf, type BriefKind, type BriefValue } from '../model/briefs.ts';
import { entryTypeOf, rootPrefix, type EntryKind, type EntryValue } from '../model/kinds/index.ts';
import type { Datastore, EncodedKeyValue, KeyChange, Transaction } from '../datastore/datastore.ts';
import { follow } from './follow.ts';
import { keyTextOf, textOf } from './tables.ts';
import { CachedEntries, type CachedChanges } from './cached-entries.ts';
import { growHeap } from './heap-growth.ts';
import { fullScope, type CacheScope } from './cache-scope.ts';
import { Listeners } from './listeners.ts';
import type { Snapshot } from './snapshot.ts';
import { isConflictHere, isWrittenHere } from './watch-echo.ts';
import { MustRead, type Stored, type Unreadable } from './view.ts';
import type { EntryChanges, Mirror, MirroredResult, WrittenValues } from './mirror.ts';

/** Whether the mirror is in sync with its datastore. */
export interface MirrorHealth {
  /** `undefined` before the first listing and during an outage. */
  readonly inSyncSince: Date | undefined;
  /** The error of the present or last outage. */
  readonly lastError: string | undefined;
  /** The datastore responds, and does not accept this host. */
  readonly isRefused: boolean;
  /** When the snapshot in use was saved; `undefined` once the datastore has been read. */
  readonly snapshotOf: Date | undefined;
}

/** A text of a commit in progress, and the values of its transaction. */
interface Sent {
  readonly text: string;
  readonly values: WrittenValues;
}

/** Up to this many changes are applied in one step; more are applied in slices, between which the event loop runs. */
const maxAtOnce = 500;
const sliceSize = 20;

/** The mirror that follows a datastore from `start` until its signal is aborted. */
export class LiveMirror implements Mirror {
  readonly datastore: Datastore;
  readonly #entries: CachedEntries;
  /** The texts that commits in progress write, by key. */
  readonly #sent = new Map<string, Sent>();
  readonly #listeners: Listeners;
  readonly #waiters = new Waiters();
  readonly #pauses = new Pauses();
  #revision = 0n;
  /** Whether the datastore has been listed. */
  #isLive = false;
  /** Whether all cached entries are of one revision, and none of a later one. */
  #isWhole = true;
  /** Changes that have been applied and of which the listeners are notified with the next slice. */
  #pending: CachedChanges = { changes: [], briefs: [] };
  /** The keys of the listing in progress, if there were cached entries when it began. */
  #listed: Set<string> | undefined;
  #snapshotOf: Date | undefined;
  #inSyncSince: Date | undefined;
  #lastError: unknown;

  readonly #readSnapshot: () => Promise<Snapshot | undefined>;
  readonly #scope: CacheScope;
  /** How long a commit waits until the watch has reported it, in milliseconds. */
  readonly #watchEchoMs: number;

  /**
   * If the first listing fails, the snapshot that `readSnapshot` returns is used until a listing succeeds. Errors of
   * listeners are reported to `listening`; by default they end the process. `scope` is the part of the datastore to
   * cache.
   */
  constructor(
    datastore: Datastore,
    readSnapshot: () => Promise<Snapshot | undefined> = () => Promise.resolve(undefined),
    listening = new Work('mirror listeners', { onFailure: throwUncaught }),
    watchEchoMs = 2500,
    scope = fullScope,
  ) {
    this.datastore = datastore;
    this.#scope = scope;
    this.#entries = new CachedEntries(scope, (written) => {
      // The key of a listed value is not a text yet.
      const sent = this.#sent.size === 0 ? undefined : this.#sent.get(keyTextOf(written));
      return sent !== undefined && sent.text === textOf(written) ? sent.values : undefined;
    });
    this.#watchEchoMs = watchEchoMs;
    this.#listeners = new Listeners(listening);
    this.#readSnapshot = readSnapshot;
  }

  /** Follows the datastore; resolves when the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const uncached = [...this.#scope.uncached].map((kind) => entryTypeOf[kind].prefix);
    for await (const followed of follow(this.datastore, { prefix: rootPrefix, uncached }, signal)) {
      switch (followed.kind) {
        case 'page': {
          const { items, isFirst } = followed;
          if (isFirst) this.#beginListing();
          growHeap(true);
          await this.#applySlices(items, { isLive: true, listed: this.#listed });
          break;
        }
        case 'listed':
          await this.#endListing(followed.revision);
          break;
        case 'changes':
          await this.#apply(followed.batch.revision, followed.batch.changes);
          break;
        case 'resumed':
          this.#inSyncSince = new Date();
          break;
        case 'broken':
          this.#inSyncSince = undefined;
          this.#lastError = followed.error;
          growHeap(false);
          if (!this.inSync) await this.#useSnapshot(await this.#readSnapshot());
          break;
      }
    }
  }

  get inSync(): boolean {
    return this.#isLive || this.#snapshotOf !== undefined;
  }

  get revision(): bigint {
    return this.#revision;
  }

  get health(): MirrorHealth {
    const lastError = this.#lastError;
    return {
      inSyncSince: this.#inSyncSince,
      lastError: lastError === undefined ? undefined : describe(lastError),
      isRefused: isCalicoError(lastError, 'datastore/refused'),
      snapshotOf: this.#snapshotOf,
    };
  }

  /** Returns the error for a caller that timed out waiting for the first listing. */
  whyNotInSync(): CalicoError {
    const { endpoint } = this.datastore;
    const cause = this.#lastError;
    if (cause === undefined) return new CalicoError('datastore/not-in-sync', { endpoint });
    if (isCalicoError(cause)) return cause;
    return new CalicoError('datastore/unavailable', { endpoint, why: describe(cause) }, { cause });
  }

  get<K extends EntryKind>(kind: K, id: string): Stored<EntryValue<K>> | undefined {
    const stored = this.cached(kind).get(id);
    if (stored !== undefined) return stored;
    if (this.#entries.mustBeRead(kind, id)) throw new MustRead({ kind, id });
    return undefined;
  }

  list<K extends EntryKind>(kind: K, idPrefix = ''): ReadonlyMap<string, Stored<EntryValue<K>>> {
    const cached = this.cached(kind);
    if (this.#entries.mustBeListed(kind)) throw new MustRead({ kind, idPrefix });
    return cached;
  }

  cached<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<EntryValue<K>>> {
    if (!this.inSync) {
      throw new CalicoError('datastore/not-in-sync', { endpoint: this.datastore.endpoint });
    }
    return this.#entries.whole(kind);
  }

  cachedInBrief<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<BriefValue<K>>> {
    return this.#entries.inBrief(kind);
  }

  brief<K extends BriefKind>(kind: K, id: string): BriefValue<K> | undefined {
    const whole = this.cached(kind).get(id);
    return whole === undefined
      ? this.#entries.inBrief(kind).get(id)?.value
      : briefTypeOf[kind].of(whole.value);
  }

  *briefs<K extends BriefKind>(kind: K): Generator<readonly [id: string, brief: BriefValue<K>]> {
    for (const [id, { value }] of this.cached(kind)) yield [id, briefTypeOf[kind].of(value)];
    for (const [id, { value }] of this.#entries.inBrief(kind)) yield [id, value];
  }

  group(kind: EntryKind, group: string): ReadonlySet<string> {
    return this.#entries.group(kind, group);
  }

  reached(revision: bigint, signal: AbortSignal): Promise<void> {
    return this.#waiters.until(() => this.#isLive && this.#revision >= revision, signal);
  }

  async commit(
    transaction: Transaction,
    signal: AbortSignal,
    values?: WrittenValues,
  ): Promise<MirroredResult> {
    const sent = values === undefined ? [] : this.#remember(transaction, values);
    try {
      const result = await this.datastore.commit(transaction, signal);
      const isHere =
        result.kind === 'committed'
          ? isWrittenHere(this, transaction, result.revision)
          : isConflictHere(this, transaction, result);
      const whenHere = (stop: AbortSignal) => this.#waiters.until(isHere, stop);
      try {
        await within(this.#watchEchoMs, whenHere);
        return result;
      } catch {
        return { ...result, whenHere };
      }
    } finally {
      for (const key of sent) this.#sent.delete(key);
    }
  }

  #remember({ writes }: Transaction, values: WrittenValues): readonly string[] {
    for (const { key, value: text } of writes) {
      if (text !== undefined) this.#sent.set(key, { text, values });
    }
    return writes.map(({ key }) => key);
  }

  /** Reports whether the value of a key, or its absence, is known. */
  isCached(key: string): boolean {
    return this.#entries.isCached(key);
  }

  /** Returns the revision of a key's last write, as far as it is known; 0 if the key is absent. */
  modRevisionOf(key: string): bigint {
    return this.#entries.modRevisionOf(key);
  }

  get isLive(): boolean {
    return this.#isLive;
  }

  subscribe(listener: (changes: EntryChanges) => void): () => void {
    return this.#listeners.add(listener);
  }

  unreadable(kind: EntryKind, id: string): Unreadable | undefined {
    const { unreadable } = this.#entries;
    return unreadable.size === 0 ? undefined : unreadable.get(entryTypeOf[kind].key(id));
  }

  allUnreadable(kind: EntryKind): ReadonlyMap<string, Unreadable> {
    const found = new Map<string, Unreadable>();
    for (const [key, unreadable] of this.#entries.unreadable) {
      const id = entryTypeOf[kind].idOf(key);
      if (id !== undefined) found.set(id, unreadable);
    }
    return found;
  }

  unreadableValues(): ReadonlyMap<string, Unreadable> {
    return this.#entries.unreadable;
  }

  get isWhole(): boolean {
    return this.#isWhole;
  }

  whole(signal: AbortSignal): Promise<void> {
    return this.#waiters.until(() => this.#isWhole, signal);
  }

  /**
   * Uses a snapshot in place of the first listing. Its values have no revision, so a listing replaces every one of
   * them.
   */
  async #useSnapshot(snapshot: Snapshot | undefined): Promise<void> {
    if (snapshot === undefined) return;
    const changes = snapshot.entries.map(([key, value]) => ({ key, value, modRevision: 0n }));
    await this.#applySlices(changes, { isLive: false });
    this.#snapshotOf = snapshot.savedAt;
    this.#reach(0n);
  }

  #beginListing(): void {
    this.#isWhole = false;
    this.#entries.dropUnlisted();
    this.#listed = this.#entries.keys().next().done === true ? undefined : new Set();
  }

  /** Cached entries that the listing did not contain have been removed. */
  async #endListing(revision: bigint): Promise<void> {
    const listed = this.#listed;
    this.#listed = undefined;
    const removed: KeyChange[] = [];
    const act = (keys: readonly string[]) => {
      for (const key of keys) {
        if (listed?.has(key) === false) {
          removed.push({ key, value: undefined, modRevision: revision });
        }
      }
    };
    if (listed !== undefined) await inSlices(this.#entries.keys(), { atOnce: maxAtOnce, act });
    await this.#applySlices(removed, { isLive: true });
    this.#isLive = true;
    this.#snapshotOf = undefined;
    this.#inSyncSince = new Date();
    growHeap(false);
    this.#reach(revision);
  }

  /**
   * Applies all changes up to a revision: in one step, or in slices if they would block the event loop, as many small ones
   * that have arrived together would.
   */
  async #apply(revision: bigint, changes: readonly KeyChange[]): Promise<void> {
    if (changes.length > maxAtOnce) {
      await this.#applySlices(changes, { isLive: true });
      this.#reach(revision);
      return;
    }
    const started = performance.now();
    for (const change of changes) this.#entries.apply(change, this.#pending);
    this.#reach(revision);
    await this.#pauses.after(performance.now() - started);
  }

  /** Applies changes in slices; the caller reports the revision they lead to afterwards. */
  async #applySlices(
    changes: Iterable<KeyChange | EncodedKeyValue>,
    { isLive, listed }: { readonly isLive: boolean; readonly listed?: Set<string> | undefined },
  ): Promise<void> {
    this.#isWhole = false;
    const act = (some: readonly (KeyChange | EncodedKeyValue)[]) => {
      this.#notify(isLive);
      for (const change of some) {
        listed?.add(keyTextOf(change));
        this.#entries.apply(change, this.#pending);
      }
    };
    await inSlices(changes, { atOnce: sliceSize, act });
  }

  /** All changes up to the revision have been applied. */
  #reach(revision: bigint): void {
    // Removals that are repeated after an interruption are of earlier revisions.
    if (revision > this.#revision) this.#revision = revision;
    this.#isWhole = true;
    this.#notify(this.#isLive, true);
    this.#waiters.settle();
  }

  #notify(isLive: boolean, evenIfEmpty = false): void {
    const pending = this.#pending;
    if (!evenIfEmpty && pending.changes.length + pending.briefs.length === 0) return;
    this.#pending = { changes: [], briefs: [] };
    this.#listeners.notify({ revision: this.#revision, isLive, ...pending });
  }
}

function throwUncaught({ error }: { readonly error: unknown }): void {
  queueMicrotask(() => {
    throw error;
  });
}
