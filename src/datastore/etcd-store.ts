import { ConstantBackoff, noop } from 'cockatiel';
import { Etcd3, type IOptions, type IWatchResponse } from 'etcd3';
import { CalicoError, describe } from '../errors/error.ts';
import type {
  ChangeBatch,
  CommitResult,
  Datastore,
  KeyChange,
  KeyValue,
  Listing,
  Transaction,
} from './datastore.ts';
import { readCredentials, refusalOf, type EtcdOptions } from './etcd-credentials.ts';

const callMs = 2000;
/**
 * etcd ends a connection, and with it the calls on it, if it is pinged more often than each 5 s
 * (`--grpc-keepalive-min-time`). Calls do not wait for a ping to find out: they have a deadline.
 */
const keepaliveMs = 6000;
const pageSize = 5000;

/** Opens etcd; nothing is asked of it yet. Throws `datastore/bad-file`. */
export async function openEtcdStore(options: EtcdOptions): Promise<Datastore> {
  const endpoint = options.endpoints.join(',');
  const credentials = await readCredentials(options);
  const { username, password } = options;
  const client = new Etcd3({
    hosts: [...options.endpoints],
    ...credentials,
    ...(username === undefined ? {} : { auth: { username, password: password ?? '' } }),
    ...tunedPolicies(),
  });
  return new EtcdStore(client, endpoint);
}

/**
 * The library's own policies repeat a compare-and-swap that may have been applied, and block every call for
 * seconds after one slow answer; here a call is made once, with a deadline.
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
    },
  };
}

class EtcdStore implements Datastore {
  readonly endpoint: string;
  readonly #client: Etcd3;
  readonly #closing = new AbortController();

  constructor(client: Etcd3, endpoint: string) {
    this.#client = client;
    this.endpoint = endpoint;
  }

  async get(key: string, signal: AbortSignal): Promise<KeyValue | undefined> {
    signal.throwIfAborted();
    const { kvs } = await this.#call(() => this.#client.kv.range({ key: Buffer.from(key) }));
    return kvs.map(toKeyValue)[0];
  }

  async list(prefix: string, signal: AbortSignal): Promise<Listing> {
    const items: KeyValue[] = [];
    const end = endOfPrefix(prefix);
    let revision = 0n;
    let key = Buffer.from(prefix);
    for (;;) {
      signal.throwIfAborted();
      const page = await this.#call(() =>
        this.#client.kv.range({
          key,
          range_end: end,
          limit: pageSize,
          revision: revision.toString(),
        }),
      );
      if (revision === 0n) revision = BigInt(page.header.revision);
      items.push(...page.kvs.map(toKeyValue));
      const last = page.kvs.at(-1)?.key;
      if (!page.more || last === undefined) return { revision, items };
      key = Buffer.concat([last, Buffer.of(0)]);
    }
  }

  async commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult> {
    signal.throwIfAborted();
    const { compares, writes } = transaction;
    try {
      const response = await this.#client.kv.txn({
        compare: compares.map(({ key, modRevision }) => ({
          key: Buffer.from(key),
          result: 'Equal',
          target: 'Mod',
          mod_revision: modRevision.toString(),
        })),
        success: writes.map(({ key, value }) =>
          value === undefined
            ? { request_delete_range: { key: Buffer.from(key) } }
            : { request_put: { key: Buffer.from(key), value: Buffer.from(value) } },
        ),
        failure: compares.map(({ key }) => ({ request_range: { key: Buffer.from(key) } })),
      });
      const revision = BigInt(response.header.revision);
      if (response.succeeded) return { kind: 'committed', revision };
      const kvs = response.responses.flatMap(({ response_range }) =>
        response_range.kvs.map(toKeyValue),
      );
      return { kind: 'conflict', revision, current: new Map(kvs.map((kv) => [kv.key, kv])) };
    } catch (error) {
      return this.#outcomeOf(transaction, error);
    }
  }

  /** What became of a transaction whose answer did not come. */
  async #outcomeOf({ compares, writes }: Transaction, error: unknown): Promise<CommitResult> {
    const why = describe(error);
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
    const written = writes.map(({ key }) => present.get(key)?.modRevision ?? 0n);
    return { kind: 'committed', revision: written.reduce((a, b) => (a > b ? a : b), 0n) };
  }

  async #readTogether(
    keys: readonly string[],
  ): Promise<{ readonly present: ReadonlyMap<string, KeyValue>; readonly revision: bigint }> {
    const { header, responses } = await this.#client.kv.txn({
      success: keys.map((key) => ({ request_range: { key: Buffer.from(key) } })),
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
    const received: IWatchResponse[] = [];
    let lost: Error | undefined;
    let wake = (): void => undefined;
    const watcher = this.#client
      .watch()
      .prefix(prefix)
      .startRevision((afterRevision + 1n).toString())
      .watcher();
    const lose = (error: unknown) => {
      lost = error instanceof Error ? error : new Error('the watch was cancelled');
      wake();
    };
    watcher.on('error', lose);
    watcher.on('disconnected', lose);
    watcher.on('end', () => lose(undefined));
    watcher.on('data', (response) => {
      received.push(response);
      wake();
    });
    const onStop = () => wake();
    stop.addEventListener('abort', onStop);
    try {
      for (;;) {
        for (const response of received.splice(0)) {
          const batch = toBatch(response);
          if (batch.changes.length > 0) yield batch;
        }
        if (stop.aborted) return;
        if (lost !== undefined) throw this.#watchLost(lost);
        if (received.length > 0) continue;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      stop.removeEventListener('abort', onStop);
      watcher.removeAllListeners('end');
      watcher.cancel().catch(() => undefined);
    }
  }

  #watchLost(cause: Error): CalicoError {
    const { endpoint } = this;
    return new CalicoError('datastore/watch-lost', { endpoint, why: describe(cause) }, { cause });
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

/** Whether the call was never taken up, so that nothing can have been applied. */
function isRefused(error: unknown): boolean {
  if (refusalOf(describe(error)) !== undefined) return true;
  return /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH/.test(describe(error));
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

function toBatch(response: IWatchResponse): ChangeBatch {
  const changes = response.events.map(({ type, kv }): KeyChange => {
    const { key, value, modRevision } = toKeyValue(kv);
    return { key, value: type === 'Delete' ? undefined : value, modRevision };
  });
  return { revision: BigInt(response.header.revision), changes: lastOfEachKey(changes) };
}

/** A batch may span several revisions; only the last change of a key counts. */
function lastOfEachKey(changes: readonly KeyChange[]): readonly KeyChange[] {
  return [...new Map(changes.map((change) => [change.key, change])).values()];
}

function endOfPrefix(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end[last] = (end[last] ?? 0) + 1;
  return end;
}
