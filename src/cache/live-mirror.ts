import { within } from '../async/deadline.ts';
import { inSlices } from '../async/slices.ts';
import { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import { CalicoError, describe, isCalicoError } from '../errors/error.ts';
import {
  entryKinds,
  entryTypeOf,
  parseKey,
  rootPrefix,
  type EntryKind,
  type EntryValue,
} from '../model/kinds/index.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import type { Datastore, KeyChange, Transaction } from '../datastore/datastore.ts';
import { follow } from './follow.ts';
import { everything, type Holding } from './holding.ts';
import { Listeners } from './listeners.ts';
import type { Snapshot } from './snapshot.ts';
import { isConflictHere, isWrittenHere } from './way-back.ts';
import { decodeEntry, Tables } from './tables.ts';
import { MustRead, type Stored, type Unreadable } from './view.ts';
import type { EntryChange, EntryChanges, Mirror, MirroredResult, WrittenValues } from './mirror.ts';

/** Whether the mirror follows its datastore now. */
export interface MirrorHealth {
  /** Since when; `undefined` before the first listing and during an outage. */
  readonly inSyncSince: Date | undefined;
  /** Why not, or what it was the last time. */
  readonly lastError: string | undefined;
  /** When the snapshot was saved that stands in for the datastore; `undefined` once that has been read. */
  readonly snapshotOf: Date | undefined;
}

/** A text that is being written, and the values of its transaction. */
interface Sent {
  readonly text: string;
  readonly values: WrittenValues;
}

/** So many changes are taken at once; more of them piece by piece, with the event loop's turn between them. */
const mostAtOnce = 500;
const pieceSize = 20;

/** The mirror that follows a datastore from `start` until its signal is aborted. */
export class LiveMirror implements Mirror {
  readonly datastore: Datastore;
  readonly #tables = new Tables();
  readonly #groups = new Map(entryKinds.map((kind) => [kind, new IdsByKey()]));
  /** What our commits under way write, by key. */
  readonly #sent = new Map<string, Sent>();
  /** What cannot be read, by key. */
  readonly #unreadable = new Map<string, Unreadable>();
  readonly #listeners: Listeners;
  readonly #waiters = new Waiters();
  #revision = 0n;
  /** Whether the datastore has been listed. */
  #isLive = false;
  /** Whether what is here was all there at one revision, and not in part already of a later one. */
  #isWhole = true;
  /** The last piece of what has been taken, of which the listeners are told with what comes next. */
  #untold: readonly EntryChange[] = [];
  /** The keys that were here when a listing began and that it has not named yet. */
  #unlisted: Set<string> | undefined;
  #snapshotOf: Date | undefined;
  #inSyncSince: Date | undefined;
  #lastError: unknown;

  readonly #readSnapshot: () => Promise<Snapshot | undefined>;
  readonly #holding: Holding;
  /** How long a commit waits for its way back here, in milliseconds. */
  readonly #wayBackMs: number;

  /**
   * What `readSnapshot` answers is used when the first listing fails, until one comes. What listeners throw is told
   * of `listening`; it ends the process where nobody is told. `holding` says what is held of the datastore.
   */
  constructor(
    datastore: Datastore,
    readSnapshot: () => Promise<Snapshot | undefined> = () => Promise.resolve(undefined),
    listening = new Work('mirror listeners', { onFailure: throwUncaught }),
    wayBackMs = 2500,
    holding = everything,
  ) {
    this.datastore = datastore;
    this.#holding = holding;
    this.#wayBackMs = wayBackMs;
    this.#listeners = new Listeners(listening);
    this.#readSnapshot = readSnapshot;
  }

  /** Follows the datastore; resolves when the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const unheld = [...this.#holding.unheld].map((kind) => entryTypeOf[kind].prefix);
    for await (const followed of follow(this.datastore, { prefix: rootPrefix, unheld }, signal)) {
      switch (followed.kind) {
        case 'page': {
          const { page, isFirst } = followed;
          if (isFirst) this.#beginListing();
          for (const { key } of page.items) this.#unlisted?.delete(key);
          await this.#takePieces(page.items);
          break;
        }
        case 'listed':
          await this.#endListing(followed.revision);
          break;
        case 'changes':
          await this.#take(followed.batch.revision, followed.batch.changes);
          break;
        case 'broken':
          this.#inSyncSince = undefined;
          this.#lastError = followed.error;
          if (!this.inSync) await this.#takeSnapshot(await this.#readSnapshot());
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
      snapshotOf: this.#snapshotOf,
    };
  }

  /** The error for a caller who waited in vain for the first listing. */
  whyNotInSync(): CalicoError {
    const { endpoint } = this.datastore;
    const cause = this.#lastError;
    if (cause === undefined) return new CalicoError('datastore/not-in-sync', { endpoint });
    if (isCalicoError(cause)) return cause;
    return new CalicoError('datastore/unavailable', { endpoint, why: describe(cause) }, { cause });
  }

  get<K extends EntryKind>(kind: K, id: string): Stored<EntryValue<K>> | undefined {
    const stored = this.held(kind).get(id);
    const isRead =
      stored === undefined
        ? !this.#holding.unheld.has(kind)
        : this.#holding.briefs[kind]?.isBrief(stored.value) !== true;
    if (!isRead) throw new MustRead({ kind, id });
    return stored;
  }

  list<K extends EntryKind>(kind: K, idPrefix = ''): ReadonlyMap<string, Stored<EntryValue<K>>> {
    const held = this.held(kind);
    if (this.#holding.unheld.has(kind)) throw new MustRead({ kind, idPrefix });
    return held;
  }

  held<K extends EntryKind>(kind: K): ReadonlyMap<string, Stored<EntryValue<K>>> {
    if (!this.inSync) {
      throw new CalicoError('datastore/not-in-sync', { endpoint: this.datastore.endpoint });
    }
    return this.#tables.of(kind);
  }

  group(kind: EntryKind, group: string): ReadonlySet<string> {
    return this.#groups.get(kind)?.ids(group) ?? new Set();
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
        await within(this.#wayBackMs, whenHere);
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

  /** Whether what a key holds, or that it is absent, is known here. */
  isHeld(key: string): boolean {
    const parsed = parseKey(key);
    if (parsed === undefined) return false;
    const { kind, id } = parsed;
    return !this.#holding.unheld.has(kind) || this.#tables.of(kind).has(id);
  }

  /** The revision of a key's last write, as far as is known here; 0: it is absent. */
  modRevisionOf(key: string): bigint {
    const parsed = parseKey(key);
    if (parsed === undefined) return 0n;
    const stored = this.#tables.of(parsed.kind).get(parsed.id);
    return stored?.modRevision ?? this.#unreadable.get(key)?.modRevision ?? 0n;
  }

  get isLive(): boolean {
    return this.#isLive;
  }

  subscribe(listener: (changes: EntryChanges) => void): () => void {
    return this.#listeners.add(listener);
  }

  unreadable(kind: EntryKind, id: string): Unreadable | undefined {
    return this.#unreadable.size === 0
      ? undefined
      : this.#unreadable.get(entryTypeOf[kind].key(id));
  }

  allUnreadable(kind: EntryKind): ReadonlyMap<string, Unreadable> {
    const found = new Map<string, Unreadable>();
    for (const [key, unreadable] of this.#unreadable) {
      const id = entryTypeOf[kind].idOf(key);
      if (id !== undefined) found.set(id, unreadable);
    }
    return found;
  }

  problems(): ReadonlyMap<string, string> {
    return new Map([...this.#unreadable].map(([key, { why }]) => [key, why]));
  }

  get isWhole(): boolean {
    return this.#isWhole;
  }

  whole(signal: AbortSignal): Promise<void> {
    return this.#waiters.until(() => this.#isWhole, signal);
  }

  /**
   * Takes a snapshot in place of the first listing. Its values have no revision, so that a listing replaces
   * every one of them.
   */
  async #takeSnapshot(snapshot: Snapshot | undefined): Promise<void> {
    if (snapshot === undefined) return;
    const changes = snapshot.entries.map(([key, value]) => ({ key, value, modRevision: 0n }));
    await this.#takePieces(changes, false);
    this.#snapshotOf = snapshot.savedAt;
    this.#arrive(0n, []);
  }

  #beginListing(): void {
    this.#isWhole = false;
    // What else was written to them meanwhile is not listed.
    for (const kind of this.#holding.unheld) this.#tables.of(kind).clear();
    this.#unlisted = new Set(this.#keys());
  }

  /** What is here and was not listed has been removed. */
  async #endListing(revision: bigint): Promise<void> {
    const gone = [...(this.#unlisted ?? [])].map((key) => ({
      key,
      value: undefined,
      modRevision: revision,
    }));
    this.#unlisted = undefined;
    await this.#takePieces(gone);
    this.#isLive = true;
    this.#snapshotOf = undefined;
    this.#inSyncSince = new Date();
    this.#arrive(revision, []);
  }

  /** Takes all that changed up to a revision: at once, unless it is so much that others would wait. */
  async #take(revision: bigint, changes: readonly KeyChange[]): Promise<void> {
    if (changes.length > mostAtOnce) {
      await this.#takePieces(changes);
      this.#arrive(revision, []);
    } else {
      this.#arrive(revision, this.#takeChanges(changes));
    }
  }

  /** Takes changes piece by piece; only what comes after them tells that the revision they lead to is reached. */
  async #takePieces(changes: readonly KeyChange[], isLive = true): Promise<void> {
    this.#isWhole = false;
    const act = (some: readonly KeyChange[]) => {
      const { revision } = this;
      if (this.#untold.length > 0)
        this.#listeners.tell({ revision, isLive, changes: this.#untold });
      this.#untold = this.#takeChanges(some);
    };
    await inSlices(changes, { atOnce: pieceSize, act });
  }

  /** All changes up to the revision are here: these are the last of them. */
  #arrive(revision: bigint, changes: readonly EntryChange[]): void {
    this.#revision = revision;
    this.#isWhole = true;
    const all = [...this.#untold, ...changes];
    this.#untold = [];
    this.#listeners.tell({ revision, isLive: this.#isLive, changes: all });
    this.#waiters.settle();
  }

  #takeChanges(changes: readonly KeyChange[]): readonly EntryChange[] {
    return changes.map((one) => this.#takeChange(one)).filter((one) => one !== undefined);
  }

  #takeChange(change: KeyChange): EntryChange | undefined {
    const parsed = parseKey(change.key);
    return parsed === undefined ? undefined : this.#takeEntry(parsed.kind, parsed.id, change);
  }

  #takeEntry<K extends EntryKind>(kind: K, id: string, change: KeyChange): EntryChange | undefined {
    const table = this.#tables.of(kind);
    const before = table.get(id);
    if (before?.modRevision === change.modRevision && change.value !== undefined) return undefined;
    const now = this.#decode(kind, id, change);
    if (now === undefined) table.delete(id);
    else table.set(id, now);
    this.#regroup(kind, id, { before, now });
    if (before === undefined && now === undefined) return undefined;
    const entryChange: EntryChange<K> = { kind, id, before, now };
    // A change of one kind is one of the alternatives; the type parameter hides that from the compiler.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return entryChange as EntryChange;
  }

  #regroup<K extends EntryKind>(
    kind: K,
    id: string,
    change: {
      readonly before: Stored<EntryValue<K>> | undefined;
      readonly now: Stored<EntryValue<K>> | undefined;
    },
  ): void {
    const groupsOf = (stored: Stored<EntryValue<K>> | undefined) =>
      stored === undefined ? [] : entryTypeOf[kind].groups(id, stored.value);
    const [before, now] = [groupsOf(change.before), groupsOf(change.now)];
    const groups = this.#groups.get(kind);
    for (const group of before) if (!now.includes(group)) groups?.remove(group, id);
    for (const group of now) groups?.add(group, id);
  }

  #decode<K extends EntryKind>(
    kind: K,
    id: string,
    { key, value, modRevision }: KeyChange,
  ): Stored<EntryValue<K>> | undefined {
    this.#unreadable.delete(key);
    if (value === undefined) return undefined;
    const sent = this.#sent.get(key);
    const known = sent?.text === value ? sent.values.written(kind, id) : undefined;
    const brief = this.#holding.briefs[kind];
    if (known !== undefined) {
      return { id, value: brief?.isBrief(known) === true ? brief.of(known) : known, modRevision };
    }
    const isOthers = this.#holding.unheld.has(kind) && !this.#tables.of(kind).has(id);
    if (isOthers) return undefined;
    const { decode: whole } = entryTypeOf[kind];
    const decoded = decodeEntry({ id, key, value, modRevision }, (...stored) =>
      brief === undefined ? whole(...stored) : brief.decode(...stored, whole),
    );
    if (!('why' in decoded)) return decoded;
    this.#unreadable.set(key, decoded);
    return undefined;
  }

  #keys(): string[] {
    const keysOf = (kind: EntryKind) =>
      [...this.#tables.of(kind).keys()].map((id) => entryTypeOf[kind].key(id));
    return [...entryKinds.flatMap(keysOf), ...this.#unreadable.keys()];
  }
}

function throwUncaught({ error }: { readonly error: unknown }): void {
  queueMicrotask(() => {
    throw error;
  });
}
