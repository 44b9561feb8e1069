import { ConstantBackoff, noop } from 'cockatiel';
import {
  Etcd3,
  LeaseClient,
  WatchClient,
  type ICompare,
  type IOptions,
  type IRangeRequest,
  type IRangeResponse,
} from 'etcd3';
import { CalicoError, describe } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  Compare,
  Datastore,
  KeyValue,
  Listing,
  RangeCompare,
  Transaction,
} from './datastore.ts';
import { readCredentials, refusalOf, type EtcdOptions } from './etcd-credentials.ts';
import { EtcdLeases } from './etcd-leases.ts';
import { watchEtcd } from './etcd-watch.ts';
import { maxOperations } from './transaction-size.ts';

const callMs = 2000;
/**
 * etcd closes a connection, with all its calls, if it is pinged more often than every 5 s
 * (`--grpc-keepalive-min-time`). Calls do not depend on pings: they have a deadline.
 */
const keepaliveMs = 6000;
/**
 * Keys per page of a listing, first and maximum. The size follows the values of the previous page: a call has a
 * deadline, and etcd counts the keys of all later pages with each call.
 */
const pageBytes = 2 << 20;
const [firstPageKeys, maxPageKeys] = [500, 5000];
/** Maximum of retries per listing, each with a smaller page. */
const maxSlowPages = 5;
/** Maximum size of a response in bytes; the library's default is 4 MiB. */
const maxReceivedBytes = 64 << 20;

/** Opens etcd without sending a request. Throws `datastore/bad-file`. */
export async function openEtcdStore(options: EtcdOptions): Promise<Datastore> {
  const endpoint = options.endpoints.join(',');
  const credentials = await readCredentials(options);
  const { username, password } = options;
  const client = new Client({
    hosts: [...options.endpoints],
    ...credentials,
    ...(username === undefined ? {} : { auth: { username, password: password ?? '' } }),
    ...tunedPolicies(),
  });
  return new EtcdStore(client, endpoint);
}

class Client extends Etcd3 {
  readonly watches = new WatchClient(this.pool);
  readonly leases = new LeaseClient(this.pool);
}

/**
 * The library's default policies repeat a compare-and-swap that may have been applied, and block every call for
 * seconds after one slow response; here a call is made once, with a deadline.
 */
function tunedPolicies(): Omit<IOptions, 'hosts'> {
  return {
    faultHandling: {
      host: () => noop,
      global: noop,
      watchBackoff: new ConstantBackoff(250).next(),
    },
    defaultCallOptions: (context) => (context.isStream ? {} : { deadline: Date.now() + callMs }),
    grpcOptions: {
      'grpc.keepalive_time_ms': keepaliveMs,
      'grpc.keepalive_timeout_ms': 1500,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 500,
      'grpc.max_receive_message_length': maxReceivedBytes,
    },
  };
}

class EtcdStore implements Datastore {
  readonly endpoint: string;
  readonly leases: EtcdLeases;
  readonly #client: Client;
  readonly #closing = new AbortController();

  constructor(client: Client, endpoint: string) {
    this.#client = client;
    this.endpoint = endpoint;
    this.leases = new EtcdLeases(client.leases, (send) => this.#call(send), callMs);
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
  ): AsyncGenerator<Listing> {
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
  async *#pagesOf(range: KeyRange, at: bigint, signal: AbortSignal): AsyncGenerator<Listing> {
    const rest = { ...range, revision: at, limit: firstPageKeys, slow: maxSlowPages };
    // A first page that fails is not requested again: etcd is unavailable.
    let next = this.#page({ ...rest, slow: 0 });
    for (;;) {
      signal.throwIfAborted();
      const page = await next;
      if (rest.revision === 0n) rest.revision = BigInt(page.header.revision);
      const last = page.more ? page.kvs.at(-1)?.key : undefined;
      if (last !== undefined) {
        rest.key = Buffer.concat([last, Buffer.of(0)]);
        rest.limit = keysOfPageAfter(page.kvs);
        next = this.#page(rest);
        // The error is thrown when the page is wanted, if it is.
        next.catch(() => undefined);
      }
      yield { revision: rest.revision, items: page.kvs.map(toKeyValue) };
      if (last === undefined) return;
    }
  }

  /** Requests a page; again, with fewer keys, if the response is too large or, `slow` times in all, too late. */
  async #page(rest: RestOfListing): Promise<IRangeResponse> {
    const { key, end, revision } = rest;
    for (let { limit } = rest; ;) {
      try {
        const asked = { key, range_end: end, limit, revision: revision.toString() };
        return await this.#client.kv.range(asked);
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
    const { compares, ranges = [], writes } = transaction;
    try {
      const response = await this.#client.kv.txn({
        compare: [...compares.map(toCompare), ...ranges.map(toRangeCompare)],
        success: writes.map(({ key, value, lease = '0' }) =>
          value === undefined
            ? { request_delete_range: { key: Buffer.from(key) } }
            : { request_put: { key: Buffer.from(key), value: Buffer.from(value), lease } },
        ),
        failure: [
          ...compares.map(({ key }) => ({ request_range: { key: Buffer.from(key) } })),
          ...ranges.map((range) => ({ request_range: newestWrite(range) })),
        ],
      });
      const revision = BigInt(response.header.revision);
      if (response.succeeded) return { kind: 'committed', revision };
      const found = response.responses.map(({ response_range }) =>
        response_range.kvs.map(toKeyValue),
      );
      const kvs = found.slice(0, compares.length).flat();
      const current = new Map(kvs.map((kv) => [kv.key, kv]));
      return { kind: 'conflict', revision, current, ...newestOf(found.slice(compares.length)) };
    } catch (error) {
      return this.#outcomeOf(transaction, error);
    }
  }

  /** Determines the outcome of a transaction whose response was lost. */
  async #outcomeOf({ compares, writes }: Transaction, error: unknown): Promise<CommitResult> {
    const why = describe(error);
    if (isTooLarge(why)) {
      const what = `${this.endpoint} says: ${why}; its --max-txn-ops and --max-request-bytes say how much it takes`;
      throw new CalicoError('datastore/too-large', { what }, { cause: error });
    }
    let present: ReadonlyMap<string, KeyValue>;
    let revision: bigint;
    try {
      ({ present, revision } = await this.#readTogether([
        ...new Set([...compares, ...writes].map(({ key }) => key)),
      ]));
    } catch (cause) {
      if (isRefused(error)) throw this.#unavailable(error);
      const { endpoint } = this;
      throw new CalicoError('datastore/outcome-unknown', { endpoint, why }, { cause });
    }
    const untouched = compares.every(
      ({ key, modRevision }) => (present.get(key)?.modRevision ?? 0n) === modRevision,
    );
    if (untouched) throw this.#unavailable(error);
    const applied = writes.every(({ key, value }) => present.get(key)?.value === value);
    if (!applied) return { kind: 'conflict', revision, current: present };
    const [written] = writes.flatMap(({ key }) => present.get(key)?.modRevision ?? []);
    // Removals have no revision of their own; it is at the latest that of this read.
    return { kind: 'committed', revision: written ?? revision };
  }

  /** `revision`: revision to read at; 0: the present one. */
  async #readTogether(
    keys: readonly string[],
    revision = 0n,
  ): Promise<{ readonly present: ReadonlyMap<string, KeyValue>; readonly revision: bigint }> {
    const { header, responses } = await this.#client.kv.txn({
      success: keys.map((key) => ({
        request_range: { key: Buffer.from(key), revision: revision.toString() },
      })),
    });
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
    const range = { key: Buffer.from(prefix), rangeEnd: endOfPrefix(prefix), afterRevision };
    try {
      yield* watchEtcd(this.#client.watches, range, stop);
    } catch (cause) {
      const { endpoint } = this;
      if (stop.aborted) return;
      throw new CalicoError('datastore/watch-lost', { endpoint, why: describe(cause) }, { cause });
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#client.close();
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
    const refusal = refusalOf(describe(cause));
    if (refusal !== undefined) {
      return new CalicoError('datastore/refused', { endpoint, why: refusal }, { cause });
    }
    return new CalicoError('datastore/unavailable', { endpoint, why: describe(cause) }, { cause });
  }
}

/** Reports whether etcd rejected a transaction because of its size, without applying any of it. */
function isTooLarge(why: string): boolean {
  return /too many operations|request is too large|grpc: received message larger than max/.test(
    why,
  );
}

/** Reports whether the call was never accepted, so nothing can have been applied. */
function isRefused(error: unknown): boolean {
  if (refusalOf(describe(error)) !== undefined) return true;
  return /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH/.test(describe(error));
}

function toCompare({ key, modRevision }: Compare): ICompare {
  return {
    key: Buffer.from(key),
    result: 'Equal',
    target: 'Mod',
    mod_revision: modRevision.toString(),
  };
}

/** A comparison with `range_end` holds if it holds for every key of the range. Source: etcd API v3, Compare. */
function toRangeCompare({ prefix, afterRevision, isOfNewKeys }: RangeCompare): ICompare {
  const revision = (afterRevision + 1n).toString();
  return {
    key: Buffer.from(prefix),
    range_end: endOfPrefix(prefix),
    result: 'Less',
    ...(isOfNewKeys === true
      ? { target: 'Create', create_revision: revision }
      : { target: 'Mod', mod_revision: revision }),
  };
}

/** Returns a request for the last written key of the range, if it was written after the revision. */
function newestWrite({ prefix, afterRevision, isOfNewKeys }: RangeCompare): IRangeRequest {
  const revision = (afterRevision + 1n).toString();
  return {
    key: Buffer.from(prefix),
    range_end: endOfPrefix(prefix),
    ...(isOfNewKeys === true ? { min_create_revision: revision } : { min_mod_revision: revision }),
    sort_target: 'Mod',
    sort_order: 'Descend',
    limit: 1,
    keys_only: true,
  };
}

function newestOf(found: readonly (readonly KeyValue[])[]): { readonly newestInRanges?: bigint } {
  const [first, ...others] = found.flat().map(({ modRevision }) => modRevision);
  if (first === undefined) return {};
  return { newestInRanges: others.reduce((a, b) => (a > b ? a : b), first) };
}

function toKeyValue(kv: {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: string;
}): KeyValue {
  return {
    key: kv.key.toString('utf8'),
    value: kv.value.toString('utf8'),
    modRevision: BigInt(kv.mod_revision),
  };
}

/** Returns the number of keys per page for the intended page size, if further values are of similar size. */
function keysOfPageAfter(kvs: readonly { readonly key: Buffer; readonly value: Buffer }[]): number {
  const bytes = kvs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
  const fitting = Math.floor((pageBytes * kvs.length) / Math.max(bytes, 1));
  return Math.min(Math.max(fitting, 1), maxPageKeys);
}

/** Reports whether the response exceeded the client's limit. */
function isTooLargeAnswer(error: unknown): boolean {
  return /Received message larger than max/.test(describe(error));
}

/** Keys from `key` to before `end`. */
interface KeyRange {
  readonly key: Buffer;
  readonly end: Buffer;
}

/** What is still to be listed of a range. */
interface RestOfListing extends KeyRange {
  readonly revision: bigint;
  readonly limit: number;
  /** How many slow responses are still tolerated. */
  slow: number;
}

/** Returns the ranges below a prefix that are not below the excluded ones. */
function rangesOf(prefix: string, without: readonly string[]): readonly KeyRange[] {
  const ranges: KeyRange[] = [];
  let key: Buffer = Buffer.from(prefix);
  for (const inner of without.toSorted()) {
    ranges.push({ key, end: Buffer.from(inner) });
    key = endOfPrefix(inner);
  }
  return [...ranges, { key, end: endOfPrefix(prefix) }];
}

function endOfPrefix(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end[last] = (end[last] ?? 0) + 1;
  return end;
}
