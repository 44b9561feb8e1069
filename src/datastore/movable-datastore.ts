import { CalicoError } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  Datastore,
  KeyValue,
  Leases,
  Listing,
  Page,
  Transaction,
} from './datastore.ts';

/** One store, for as long as it is the one in use. */
interface Stay {
  readonly store: Datastore;
  /** What is added to a revision of the store. */
  readonly offset: bigint;
  /** Aborted when another store is in use. */
  readonly left: AbortController;
}

/** No key has this revision. */
const never = -1n;

/**
 * A datastore whose store can be exchanged while it is in use. Callers see revisions that only rise: those of each later
 * store are higher than all before, so whatever was read from an earlier store conflicts with the present one. A watch
 * ends when the store is exchanged, and the caller lists again.
 */
export class MovableDatastore implements Datastore {
  #stay: Stay;
  /** The highest revision that a caller may know. */
  #highest = 0n;

  readonly #onReplaced: (after: bigint) => Promise<void>;
  /** Resolves when the store may be listed. */
  #ready: Promise<void> = Promise.resolve();

  /**
   * `onReplaced` is called when the store was replaced by another one in its place, before that is listed, with what
   * `use` returns.
   */
  constructor(
    store: Datastore,
    onReplaced: (after: bigint) => Promise<void> = () => Promise.resolve(),
  ) {
    this.#onReplaced = onReplaced;
    this.#stay = { store, offset: 0n, left: new AbortController() };
    this.#follow(store);
  }

  /** The store in use. */
  get store(): Datastore {
    return this.#stay.store;
  }

  get endpoint(): string {
    return this.store.endpoint;
  }

  get cluster(): string | undefined {
    return this.store.cluster;
  }

  get reached(): bigint {
    return this.store.reached ?? 0n;
  }

  get leases(): Leases | undefined {
    return this.store.leases;
  }

  /**
   * Uses another store from now on, or the same one if its revisions no longer continue those before. Returns the
   * revision above which all revisions of this store are.
   */
  use(store: Datastore): bigint {
    const { left, store: before } = this.#stay;
    if (store !== before) this.#follow(store);
    const offset = this.#highest + 1n;
    this.#highest = offset;
    this.#stay = { store, offset, left: new AbortController() };
    left.abort();
    return offset;
  }

  #follow(store: Datastore): void {
    store.onReplaced?.(() => {
      if (store !== this.store) return;
      this.#ready = this.#onReplaced(this.use(store));
    });
  }

  async read(keys: readonly string[], signal: AbortSignal): Promise<Listing> {
    const stay = this.#stay;
    const listing = await stay.store.read(keys, signal);
    return this.#listing(this.#stayOf(stay), listing);
  }

  async *pages(
    prefix: string,
    signal: AbortSignal,
    without?: readonly string[],
  ): AsyncGenerator<Page> {
    await this.#ready;
    const stay = this.#stay;
    for await (const page of stay.store.pages(prefix, signal, without)) {
      // The rest of a listing that began before is of no use.
      if (stay.left.signal.aborted) throw this.#ended();
      const { offset } = stay;
      const revision = this.#known(page.revision + offset);
      const { items, encoded } = page;
      yield offset === 0n
        ? { ...page, revision }
        : {
            revision,
            items: allShifted(items, offset),
            ...(encoded === undefined ? {} : { encoded: allShifted(encoded, offset) }),
          };
    }
  }

  async commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult> {
    const { store, offset } = this.#stay;
    const result = await store.commit(toStore(transaction, offset), signal);
    const stay = this.#stayOf({ store, offset });
    const revision = this.#known(result.revision + stay.offset);
    if (result.kind === 'committed') return { kind: 'committed', revision };
    const { newestInRanges: newest, current } = result;
    return {
      kind: 'conflict',
      revision,
      current: new Map([...current].map(([key, item]) => [key, shifted(item, stay.offset)])),
      ...(newest === undefined ? {} : { newestInRanges: newest + stay.offset }),
    };
  }

  async *watch(
    prefix: string,
    afterRevision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<ChangeBatch> {
    const { store, offset, left } = this.#stay;
    const after = afterRevision - offset;
    // A revision of an earlier store: nothing says what changed since.
    if (after < 0n) return;
    const stop = AbortSignal.any([signal, left.signal]);
    for await (const { revision, changes } of store.watch(prefix, after, stop)) {
      if (left.signal.aborted) return;
      yield {
        revision: this.#known(revision + offset),
        changes: changes.map((change) => shifted(change, offset)),
      };
    }
  }

  async hasWritten(write: KeyValue, signal: AbortSignal): Promise<boolean> {
    const { store, offset, left } = this.#stay;
    const modRevision = write.modRevision - offset;
    // A write of an earlier store.
    if (store.hasWritten === undefined || modRevision <= 0n) return false;
    return (await store.hasWritten({ ...write, modRevision }, signal)) && !left.signal.aborted;
  }

  async reconnect(endpoints: readonly string[]): Promise<void> {
    await this.store.reconnect?.(endpoints);
  }

  close(): Promise<void> {
    return this.store.close();
  }

  /** The stay that a response belongs to: if the store was replaced during a call, the response is of the new one. */
  #stayOf(asked: Pick<Stay, 'store' | 'offset'>): Pick<Stay, 'store' | 'offset'> {
    return this.#stay.store === asked.store ? this.#stay : asked;
  }

  #ended(): CalicoError {
    const { endpoint } = this;
    return new CalicoError('datastore/watch-lost', { endpoint, why: 'it was replaced' });
  }

  #listing({ offset }: Pick<Stay, 'offset'>, { revision, items }: Listing): Listing {
    return {
      revision: this.#known(revision + offset),
      items: offset === 0n ? items : items.map((item) => shifted(item, offset)),
    };
  }

  #known(revision: bigint): bigint {
    if (revision > this.#highest) this.#highest = revision;
    return revision;
  }
}

function shifted<T extends Pick<KeyValue, 'modRevision'>>(item: T, offset: bigint): T {
  return offset === 0n ? item : { ...item, modRevision: item.modRevision + offset };
}

function allShifted<T extends Pick<KeyValue, 'modRevision'>>(
  items: Iterable<T>,
  offset: bigint,
): Iterable<T> {
  return Iterator.from(items).map((item) => shifted(item, offset));
}

/** A comparison with a revision of an earlier store never holds. */
function toStore(transaction: Transaction, offset: bigint): Transaction {
  if (offset === 0n) return transaction;
  const { compares, ranges, writes } = transaction;
  return {
    compares: compares.map(({ key, modRevision }) => ({
      key,
      modRevision: modRevision === 0n ? 0n : atLeast(modRevision - offset, never),
    })),
    ...(ranges === undefined
      ? {}
      : {
          ranges: ranges.map((range) => ({
            ...range,
            afterRevision: atLeast(range.afterRevision - offset, 0n),
          })),
        }),
    writes,
  };
}

function atLeast(revision: bigint, least: bigint): bigint {
  return revision > least ? revision : least;
}
