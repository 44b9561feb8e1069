import { EtcdInvalidAuthTokenError, type KVClient } from 'etcd3';
import protobuf from 'protobufjs/minimal.js';
import { decodeKey, decodeText, type EncodedKeyValue, type KeyValue } from './datastore.ts';
import type { ResponseHeader } from './etcd-history.ts';

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
  const [keyTag, endTag, limitTag, revisionTag] = [0x0a, 0x12, 0x18, 0x20];
  const writer = protobuf.Writer.create();
  writer.uint32(keyTag).bytes(key).uint32(endTag).bytes(end);
  writer.uint32(limitTag).int64(limit).uint32(revisionTag).int64(Number(revision));
  return Buffer.from(writer.finish());
}

/** Decodes a `RangeResponse` as far as needed. Throws an error if it is damaged. Source: as above. */
export function decodeRange(bytes: Buffer): RangePage {
  const reader = protobuf.Reader.create(bytes);
  let headerAt: Place = [0, 0];
  let more = false;
  /** Where the messages of keys begin and end, one after the other. */
  const places: number[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) headerAt = place(reader);
    else if (tag >>> 3 === 2) places.push(...place(reader));
    else if (tag >>> 3 === 3) more = reader.bool();
    else reader.skipType(tag & 7);
  }
  const [start = 0, end = 0] = places.slice(-2);
  return {
    header: decodeHeader(reader, headerAt),
    more,
    last: places.length === 0 ? undefined : keyIn(reader, bytes, [start, end]),
    count: places.length / 2,
    size: bytes.length,
    items: { [Symbol.iterator]: () => keyValues(bytes, places) },
    encoded: { [Symbol.iterator]: () => encodedKeyValues(bytes, places) },
  };
}

type Place = readonly [start: number, end: number];

/** Passes a text, bytes or an embedded message, and returns where it is: nothing is copied. */
function place(reader: protobuf.Reader): Place {
  const length = reader.uint32();
  const start = reader.pos;
  reader.skip(length);
  return [start, reader.pos];
}

/** Continues with the message at a place: one reader serves many messages. */
function enter(reader: protobuf.Reader, [start, end]: Place): void {
  reader.pos = start;
  reader.len = end;
}

/** Reads a number whole: the library's own reading loses digits beyond 2^53 in a bundle without `long`. */
function varint(reader: protobuf.Reader): bigint {
  const start = reader.pos;
  reader.skip();
  if (reader.pos - start <= exactBytes) {
    let number = 0;
    for (let at = reader.pos - 1; at >= start; at--) {
      number = number * 128 + ((reader.buf[at] ?? 0) & 127);
    }
    return BigInt(number);
  }
  let value = 0n;
  for (let at = reader.pos - 1; at >= start; at--) {
    value = (value << 7n) | BigInt((reader.buf[at] ?? 0) & 127);
  }
  return BigInt.asUintN(64, value);
}

/** Numbers of so many bytes, of 7 bits each, are exact as floating-point numbers, which are no garbage. */
const exactBytes = 7;

function decodeHeader(reader: protobuf.Reader, at: Place): ResponseHeader {
  let [cluster, revision] = [0n, 0n];
  enter(reader, at);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) cluster = varint(reader);
    else if (tag >>> 3 === 3) revision = varint(reader);
    else reader.skipType(tag & 7);
  }
  return { cluster_id: cluster.toString(), revision: revision.toString() };
}

/** Fields of a `KeyValue`. Source: etcd, api/mvccpb/kv.proto. */
const [keyField, modRevisionField, valueField] = [1, 3, 5];

function keyIn(reader: protobuf.Reader, bytes: Buffer, at: Place): Buffer {
  enter(reader, at);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === keyField) return bytes.subarray(...place(reader));
    reader.skipType(tag & 7);
  }
  return Buffer.alloc(0);
}

function* keyValues(bytes: Buffer, places: readonly number[]): Generator<KeyValue, undefined> {
  for (const encoded of encodedKeyValues(bytes, places)) {
    const { modRevision } = encoded;
    yield { key: decodeKey(encoded), value: decodeText(encoded), modRevision };
  }
  return undefined;
}

function* encodedKeyValues(
  bytes: Buffer,
  places: readonly number[],
): Generator<EncodedKeyValue, undefined> {
  const reader = protobuf.Reader.create(bytes);
  for (let at = 0; at < places.length; at += 2) {
    let modRevision = 0n;
    let [keyStart, keyEnd, start, end] = [0, 0, 0, 0];
    enter(reader, [places[at] ?? 0, places[at + 1] ?? 0]);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag >>> 3 === keyField) [keyStart, keyEnd] = place(reader);
      else if (tag >>> 3 === valueField) [start, end] = place(reader);
      else if (tag >>> 3 === modRevisionField) modRevision = varint(reader);
      else reader.skipType(tag & 7);
    }
    yield { modRevision, bytes, keyStart, keyEnd, start, end };
  }
  return undefined;
}
