import { EtcdInvalidAuthTokenError, type KVClient } from 'etcd3';
import { decodeText, type EncodedKeyValue, type KeyValue } from './datastore.ts';
import type { ResponseHeader } from './etcd-history.ts';
import { bytesField, int64Field, MessageReader } from './protobuf.ts';

/**
 * Listing of keys without the library's objects. A listing may have hundreds of thousands of keys; the library would make
 * several objects of each before the first is used, with fields that nobody reads. Here a page stays bytes, and
 * its keys are read one by one.
 */

/** The keys to list: at most `limit` from `key` to before `end`, at a revision; 0: the present one. */
export interface RangeRequest {
  readonly key: Buffer;
  readonly end: Buffer;
  readonly limit: number;
  readonly revision: bigint;
}

/** A page of a listing. */
export interface RangePage {
  readonly header: ResponseHeader;
  /** Whether more keys follow. */
  readonly more: boolean;
  /** The last key; `undefined` if there is none. */
  readonly last: Buffer | undefined;
  readonly count: number;
  /** Bytes of the response. */
  readonly size: number;
  /** Both read the keys while they are iterated. */
  readonly items: Iterable<KeyValue>;
  readonly encoded: Iterable<EncodedKeyValue>;
}

/** The connections of a client of etcd. */
type Connections = Pick<ConstructorParameters<typeof KVClient>[0], 'withConnection'>;

/** Requests a page. Throws the errors of the library. */
export async function listRange(
  { connections, kv }: { readonly connections: Connections; readonly kv: KVClient },
  request: RangeRequest,
  deadline: number,
): Promise<RangePage> {
  try {
    return await callRange(connections, request, deadline);
  } catch (error) {
    if (!(error instanceof EtcdInvalidAuthTokenError)) throw error;
    // The library requests another token in a call of its own.
    await kv.range({ key: request.key }, { deadline });
    return callRange(connections, request, deadline);
  }
}

function callRange(
  connections: Connections,
  request: RangeRequest,
  deadline: number,
): Promise<RangePage> {
  return connections.withConnection(
    'KV',
    ({ client, metadata }) =>
      new Promise<RangePage>((resolve, reject) => {
        client.makeUnaryRequest(
          '/etcdserverpb.KV/Range',
          encodeRequest,
          decodeRange,
          request,
          metadata,
          { deadline },
          (error, page) => {
            if (page === undefined) reject(error ?? new Error('etcd has not responded'));
            else resolve(page);
          },
        );
      }),
  );
}

/** Encodes a `RangeRequest`. Source: etcd, api/etcdserverpb/rpc.proto. */
export function encodeRequest({ key, end, limit, revision }: RangeRequest): Buffer {
  return Buffer.concat([
    bytesField(1, key),
    bytesField(2, end),
    int64Field(3, BigInt(limit)),
    int64Field(4, revision),
  ]);
}

/** Decodes a `RangeResponse` as far as needed. Throws a `RangeError` if it is damaged. Source: as above. */
export function decodeRange(bytes: Buffer): RangePage {
  const reader = new MessageReader(bytes);
  let headerAt: readonly [start: number, end: number] = [0, 0];
  let more = false;
  /** Where the messages of keys begin and end, one after the other. */
  const places: number[] = [];
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field === 1) {
      reader.pass();
      headerAt = [reader.start, reader.end];
    } else if (field === 2) {
      reader.pass();
      places.push(reader.start, reader.end);
    } else if (field === 3) more = reader.uint64() !== 0n;
  }
  const [start = 0, end = 0] = places.slice(-2);
  return {
    header: decodeHeader(reader, ...headerAt),
    more,
    last: places.length === 0 ? undefined : keyIn(reader, bytes, start, end),
    count: places.length / 2,
    size: bytes.length,
    items: { [Symbol.iterator]: () => keyValues(bytes, places) },
    encoded: { [Symbol.iterator]: () => encodedKeyValues(bytes, places) },
  };
}

function decodeHeader(reader: MessageReader, start: number, end: number): ResponseHeader {
  let [cluster, revision] = [0n, 0n];
  reader.enter(start, end);
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field === 1) cluster = reader.uint64();
    else if (field === 3) revision = reader.int64();
  }
  return { cluster_id: cluster.toString(), revision: revision.toString() };
}

/** Fields of a `KeyValue`. Source: etcd, api/mvccpb/kv.proto. */
const [keyField, modRevisionField, valueField] = [1, 3, 5];

function keyIn(reader: MessageReader, bytes: Buffer, start: number, end: number): Buffer {
  reader.enter(start, end);
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field !== keyField) continue;
    reader.pass();
    return bytes.subarray(reader.start, reader.end);
  }
  return Buffer.alloc(0);
}

function* keyValues(bytes: Buffer, places: readonly number[]): Generator<KeyValue, undefined> {
  for (const encoded of encodedKeyValues(bytes, places)) {
    const { key, modRevision } = encoded;
    yield { key, value: decodeText(encoded), modRevision };
  }
  return undefined;
}

function* encodedKeyValues(
  bytes: Buffer,
  places: readonly number[],
): Generator<EncodedKeyValue, undefined> {
  const reader = new MessageReader(bytes);
  for (let at = 0; at < places.length; at += 2) {
    let [key, modRevision, start, end] = ['', 0n, 0, 0];
    reader.enter(places[at] ?? 0, places[at + 1] ?? 0);
    for (let field = reader.next(); field !== undefined; field = reader.next()) {
      if (field === keyField) {
        reader.pass();
        key = bytes.toString('utf8', reader.start, reader.end);
      } else if (field === valueField) {
        reader.pass();
        ({ start, end } = reader);
      } else if (field === modRevisionField) modRevision = reader.int64();
    }
    yield { key, modRevision, bytes, start, end };
  }
  return undefined;
}
