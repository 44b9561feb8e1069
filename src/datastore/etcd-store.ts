import { isDeepStrictEqual } from 'node:util';
import { CalicoError, describe } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  Datastore,
  KeyValue,
  KnownCluster,
  Listing,
  Page,
  Transaction,
} from './datastore.ts';
import { clientsOf, closeAll, limits, type Client } from './etcd-client.ts';
import { isDenied, refusalOf, type EtcdOptions, type EtcdRole } from './etcd-credentials.ts';
import { EtcdHistory } from './etcd-history.ts';
import { EtcdEndpoints, isNeverSent } from './etcd-endpoints.ts';
import { appliedAt, deniedWrite, isAppliedOnce, isTooLarge } from './commit-outcome.ts';
import { EtcdLeases } from './etcd-leases.ts';
import {
  endOfPrefix,
  newestOf,
  rangesOf,
  toKeyValue,
  toRequest,
  type KeyRange,
} from './etcd-messages.ts';
import { listRange, type RangePage } from './etcd-range.ts';
import { WatchCancelled, watchEtcd } from './etcd-watch.ts';
import { maxOperations } from './transaction-size.ts';

/**
 * Keys per page of a listing, first and maximum. The size follows the values of the previous page: a call has a
 * deadline, and etcd counts the keys of all later pages with each call, which is half of its work for pages of 2 MB.
 */
const pageBytes = 4 << 20;
const [firstPageKeys, maxPageKeys] = [500, 5000];
/** Maximum of retries per listing, each with a smaller page. */
const maxSlowPages = 5;

/** Opens etcd without sending a request. Throws `datastore/bad-file`. */
export async function openEtcdStore(options: EtcdOptions): Promise<Datastore> {
  return new EtcdStore(options, await clientsOf(options));
}

class EtcdStore implements Datastore {
  readonly leases: EtcdLeases;
  #options: EtcdOptions;
  #clients: readonly Client[];
  readonly #endpoints: EtcdEndpoints<Client>;
  readonly #history = new EtcdHistory();
  readonly #closing = new AbortController();

  constructor(options: EtcdOptions, clients: readonly Client[]) {
    this.#options = options;
    this.#clients = clients;
    this.#endpoints = new EtcdEndpoints(clients, { ...limits, refusedMs: options.refusedMs ?? 0 });
    this.leases = new EtcdLeases((send) =>
      this.#call(() => this.#endpoints.call(({ leases }, attempt) => send(leases, attempt))),
    );
  }

  get cluster(): string | undefined {
    return this.#history.cluster;
  }

  onReplaced(listener: () => void): void {
    this.#history.onReplaced(listener);
  }

  get reached(): bigint {
    return this.#history.revision;
  }

  expectCluster(known: KnownCluster): void {
    this.#history.expect(known);
  }

  get endpoint(): string {
    return this.#options.endpoints.join(',');
  }

  get #role(): EtcdRole | undefined {
    return this.#options.role;
  }

  async reconnect(endpoints: readonly string[]): Promise<void> {
    const options = { ...this.#options, endpoints };
    const clients = await clientsOf(options);
    if (this.#closing.signal.aborted) return closeAll(clients);
    const former = this.#clients;
    this.#options = options;
    this.#clients = clients;
    // Watches continue at the new endpoints; calls under way may still be answered.
    this.#endpoints.replace(clients);
    setTimeout(() => closeAll(former), limits.attemptMs).unref();
  }

  async read(keys: readonly string[], signal: AbortSignal): Promise<Listing> {
    const items: KeyValue[] = [];
    // The first call sets the revision; further keys, beyond the limit of a transaction, are read at that revision.
    let revision = 0n;
    for (let from = 0; from === 0 || from < keys.length; from += maxOperations) {
      signal.throwIfAborted();
      const some = keys.slice(from, from + maxOperations);
      const read = await this.#call(() => this.#readTogether(some, revision));
      if (revision === 0n) ({ revision } = read);
      items.push(...read.present.values());
    }
    return { revision, items };
  }

  async *pages(
    prefix: string,
    signal: AbortSignal,
    without: readonly string[] = [],
  ): AsyncGenerator<Page> {
    let revision = 0n;
    for (const range of rangesOf(prefix, without)) {
      for await (const page of this.#pagesOf(range, revision, signal)) {
        ({ revision } = page);
        yield page;
      }
    }
  }

  /**
   * `at`: revision to read at; 0: the present one. The next page is requested before the caller processes this one, so
   * that etcd and this process work at the same time.
   */
  async *#pagesOf(range: KeyRange, at: bigint, signal: AbortSignal): AsyncGenerator<Page> {
    const rest = { ...range, revision: at, limit: firstPageKeys, slow: maxSlowPages };
    // Before the request: the error of one that nobody waits for would end the process.
    signal.throwIfAborted();
    // A first page that fails is not requested again: etcd is unavailable.
    let next = this.#page({ ...rest, slow: 0 });
    for (;;) {
      const page = await next;
      if (rest.revision === 0n) rest.revision = BigInt(page.header.revision);
      const last = page.more ? page.last : undefined;
      if (last !== undefined) {
        rest.key = Buffer.concat([last, Buffer.of(0)]);
        rest.limit = keysOfPageAfter(page);
        next = this.#page(rest);
        // The error is thrown when the page is wanted, if it is.
        next.catch(() => undefined);
      }
      const { items, encoded } = page;
      yield { revision: rest.revision, items, encoded };
      if (last === undefined) return;
      signal.throwIfAborted();
    }
  }

  /** Requests a page; again, with fewer keys, if the response is too large or, `slow` times in all, too late. */
  async #page(rest: RestOfListing): Promise<RangePage> {
    const { key, end, revision } = rest;
    for (let { limit } = rest; ;) {
      try {
        const asked = { key, end, limit, revision };
        const known = this.#history.revision;
        const page = await this.#endpoints.call((client, { deadline }) =>
          listRange(client, asked, deadline),
        );
        this.#history.saw(page.header, known);
        return page;
      } catch (error) {
        const isTooLarge = limit > 1 && isTooLargeAnswer(error);
        // One slow response must not restart a long listing.
        if (!isTooLarge && rest.slow <= 0) throw this.#unavailable(error);
        if (!isTooLarge) rest.slow--;
        limit = Math.ceil(limit / (isTooLarge ? 8 : 2));
      }
    }
  }

  async commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult> {
    signal.throwIfAborted();
    const { compares } = transaction;
    const request = toRequest(transaction);
    const known = this.#history.revision;
    let isMaybeApplied = false;
    try {
      const response = await this.#endpoints.call(
        ({ kv }, { deadline, failures }) => {
          isMaybeApplied = !failures.every(isNeverSent);
          return kv.txn(request, { deadline });
        },
        { isRepeatable: isAppliedOnce(transaction) },
      );
      this.#history.saw(response.header, known);
      const revision = BigInt(response.header.revision);
      if (response.succeeded) return { kind: 'committed', revision };
      const found = response.responses.map(({ response_range }) =>
        response_range.kvs.map(toKeyValue),
      );
      const kvs = found.slice(0, compares.length).flat();
      const current = new Map(kvs.map((kv) => [kv.key, kv]));
      // An earlier attempt may have been applied without a response; then this one conflicts with it.
      const applied = isMaybeApplied ? appliedAt(transaction, current, revision) : undefined;
      if (applied !== undefined) return { kind: 'committed', revision: applied };
      return { kind: 'conflict', revision, current, ...newestOf(found.slice(compares.length)) };
    } catch (error) {
      return this.#outcomeOf(transaction, error);
    }
  }

  /** Determines the outcome of a transaction whose response was lost. */
  async #outcomeOf(transaction: Transaction, error: unknown): Promise<CommitResult> {
    const { compares, writes } = transaction;
    const why = describe(error);
    if (isDenied(why)) throw deniedWrite(writes, this.endpoint, this.#role, error);
    if (isTooLarge(why)) {
      const what = `${this.endpoint} says: ${why}; its --max-txn-ops and --max-request-bytes say how much it takes`;
      throw new CalicoError('datastore/too-large', { what }, { cause: error });
    }
    let present: ReadonlyMap<string, KeyValue>;
    let revision: bigint;
    try {
      const keys = [...new Set([...compares, ...writes].map(({ key }) => key))];
      // A repeated transaction has used its time.
      const attempts = isAppliedOnce(transaction) ? 1 : undefined;
      ({ present, revision } = await this.#readTogether(keys, 0n, attempts));
    } catch (cause) {
      if (isNeverSent(error)) throw this.#unavailable(error);
      const { endpoint } = this;
      throw new CalicoError('datastore/outcome-unknown', { endpoint, why }, { cause });
    }
    const untouched = compares.every(
      ({ key, modRevision }) => (present.get(key)?.modRevision ?? 0n) === modRevision,
    );
    if (untouched) throw this.#unavailable(error);
    const applied = appliedAt(transaction, present, revision);
    if (applied === undefined) return { kind: 'conflict', revision, current: present };
    return { kind: 'committed', revision: applied };
  }

  /** `revision`: revision to read at; 0: the present one. */
  async #readTogether(
    keys: readonly string[],
    revision = 0n,
    attempts?: number,
  ): Promise<{ readonly present: ReadonlyMap<string, KeyValue>; readonly revision: bigint }> {
    const request = {
      success: keys.map((key) => ({
        request_range: { key: Buffer.from(key), revision: revision.toString() },
      })),
    };
    const known = this.#history.revision;
    const { header, responses } = await this.#endpoints.call(
      ({ kv }, { deadline }) => kv.txn(request, { deadline }),
      attempts === undefined ? {} : { attempts },
    );
    this.#history.saw(header, known);
    const kvs = responses.flatMap(({ response_range }) => response_range.kvs.map(toKeyValue));
    return {
      present: new Map(kvs.map((kv) => [kv.key, kv])),
      revision: BigInt(header.revision),
    };
  }

  async *watch(
    prefix: string,
    afterRevision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<ChangeBatch> {
    const stop = AbortSignal.any([signal, this.#closing.signal]);
    const range = { key: Buffer.from(prefix), rangeEnd: endOfPrefix(prefix) };
    let seen = afterRevision;
    for (;;) {
      const { client, left } = this.#endpoints.preferred;
      try {
        const moved = AbortSignal.any([stop, left]);
        for await (const batch of watchEtcd(
          client.watches,
          { ...range, afterRevision: seen },
          moved,
        )) {
          seen = batch.revision;
          this.#history.heard(seen);
          yield batch;
        }
      } catch (cause) {
        if (!stop.aborted && !(await this.#hasOther(client, prefix, cause))) {
          const { endpoint } = this;
          const why = describe(cause);
          throw new CalicoError('datastore/watch-lost', { endpoint, why }, { cause });
        }
      }
      if (stop.aborted) return;
    }
  }

  /** Reports whether a watch that was lost can be continued at another endpoint. */
  async #hasOther(client: Client, watched: string, cause: unknown): Promise<boolean> {
    if (cause instanceof WatchCancelled || this.#clients.length === 1) return false;
    this.#endpoints.avoid(client);
    try {
      // Every member responds to this only if it is connected to the leader.
      await this.#readTogether([watched]);
      return true;
    } catch {
      return false;
    }
  }

  async hasWritten(write: KeyValue, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    const known = this.#history.revision;
    const asked = { key: Buffer.from(write.key), revision: write.modRevision.toString() };
    try {
      const { header, kvs } = await this.#endpoints.call(({ kv }, { deadline }) =>
        kv.range(asked, { deadline }),
      );
      this.#history.saw(header, known);
      return isDeepStrictEqual(kvs.map(toKeyValue), [write]);
    } catch (error) {
      if (isNoRevision(error)) return false;
      throw this.#unavailable(error);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    closeAll(this.#clients);
  }

  async #call<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      throw this.#unavailable(error);
    }
  }

  #unavailable(cause: unknown): CalicoError {
    const { endpoint } = this;
    const refusal = refusalOf(describe(cause), this.#role);
    if (refusal !== undefined) {
      return new CalicoError('datastore/refused', { endpoint, why: refusal }, { cause });
    }
    return new CalicoError('datastore/unavailable', { endpoint, why: describe(cause) }, { cause });
  }
}

/** Returns the number of keys per page for the intended page size, if further values are of similar size. */
function keysOfPageAfter({ count, size }: Pick<RangePage, 'count' | 'size'>): number {
  const fitting = Math.floor((pageBytes * count) / Math.max(size, 1));
  return Math.min(Math.max(fitting, 1), maxPageKeys);
}

/** Reports whether the response exceeded the client's limit. */
function isTooLargeAnswer(error: unknown): boolean {
  return /Received message larger than max/.test(describe(error));
}

/** The revision was compacted, or the store has not reached it. */
function isNoRevision(error: unknown): boolean {
  return /required revision/.test(describe(error));
}

/** What is still to be listed of a range. */
interface RestOfListing extends KeyRange {
  readonly revision: bigint;
  readonly limit: number;
  /** How many slow responses are still tolerated. */
  slow: number;
}
