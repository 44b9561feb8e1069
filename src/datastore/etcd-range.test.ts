import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadSync, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import fc from 'fast-check';
import { decodeKey, decodeText } from './datastore.ts';
import { decodeRange, encodeRequest } from './etcd-range.ts';

/** etcd's own definition of the call, as the library has it. */
const method = (() => {
  const file = join(import.meta.dirname, '../../node_modules/etcd3/proto/rpc.proto');
  const options = { keepCase: true, longs: String, defaults: true };
  const service = loadSync(file, options)['etcdserverpb.KV'];
  assert.ok(service !== undefined && isService(service));
  return service['Range'] ?? assert.fail('etcd has ranges');
})();

function isService(
  found: object,
): found is ServiceDefinition & Record<string, MethodDefinition<object, object>> {
  return 'Range' in found;
}

const int64 = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n });
/** etcd counts its revisions from 1. */
const counted = fc.maxSafeNat().map(BigInt);
const bytes = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ minLength: 100, maxLength: 20_000 }),
);

test('any page is read as by the library that knows the definition of the protocol', () => {
  const page = fc.record({
    header: fc.record({
      cluster_id: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(String),
      member_id: int64.map(String),
      revision: int64.map(String),
      raft_term: int64.map(String),
    }),
    kvs: fc.array(
      fc.record({
        key: bytes.map((text) => Buffer.from(text)),
        value: bytes.map((text) => Buffer.from(text)),
        create_revision: int64.map(String),
        mod_revision: fc.oneof(int64, counted).map(String),
        version: int64.map(String),
        lease: int64.map(String),
      }),
      { maxLength: 4 },
    ),
    more: fc.boolean(),
    count: int64.map(String),
  });
  fc.assert(
    fc.property(page, (sent) => {
      const encoded = method.responseSerialize(sent);
      const { header, items, encoded: pairs, ...read } = decodeRange(encoded);
      const { cluster_id, revision } = sent.header;
      assert.deepEqual(header, { cluster_id, revision });
      const expected = sent.kvs.map(({ key, value, mod_revision }) => ({
        key: key.toString(),
        value: value.toString(),
        modRevision: BigInt(mod_revision),
      }));
      assert.deepEqual([...items], expected);
      assert.deepEqual(
        Array.from(pairs, (one) => ({
          key: decodeKey(one),
          value: decodeText(one),
          modRevision: one.modRevision,
        })),
        expected,
      );
      const last = sent.kvs.at(-1)?.key;
      const rest = { more: sent.more, count: sent.kvs.length, size: encoded.length };
      assert.deepEqual(
        { ...read, last: read.last?.toString() },
        { ...rest, last: last?.toString() },
      );
    }),
  );
});

test('a request is read by the library as it was made', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.nat(), counted, (key, end, limit, revision) => {
      const [first, last] = [Buffer.from(key), Buffer.from(end)];
      const read = method.requestDeserialize(
        encodeRequest({ key: first, end: last, limit, revision }),
      );
      const none = '0';
      assert.deepEqual(
        { ...read },
        {
          key: first,
          range_end: last,
          limit: String(limit),
          revision: String(revision),
          sort_order: 0,
          sort_target: 0,
          serializable: false,
          keys_only: false,
          count_only: false,
          min_mod_revision: none,
          max_mod_revision: none,
          min_create_revision: none,
          max_create_revision: none,
        },
      );
    }),
  );
});

test('a damaged page is an error, or another page, never an endless loop', () => {
  const encoded = method.responseSerialize({
    header: { cluster_id: '1', revision: '2' },
    kvs: [{ key: Buffer.from('/a'), value: Buffer.from('one'), mod_revision: '2' }],
    more: true,
  });
  fc.assert(
    fc.property(fc.nat(encoded.length - 1), fc.nat(255), fc.boolean(), (at, byte, isCut) => {
      const damaged = Buffer.from(isCut ? encoded.subarray(0, at) : encoded);
      if (!isCut) damaged[at] = byte;
      try {
        assert.ok([...decodeRange(damaged).items].length <= damaged.length);
      } catch (error) {
        assert.ok(
          error instanceof Error && !(error instanceof assert.AssertionError),
          String(error),
        );
      }
    }),
  );
});
