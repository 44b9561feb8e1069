import assert from 'node:assert/strict';
import { test } from 'node:test';
import packet from 'dns-packet';
import fc from 'fast-check';
import { parseAddress } from '../ip/address.ts';
import { decodeQuery, encodeResponse, reverseAddress } from './dns.ts';

const question: packet.Question = { name: 'Api', type: 'A', class: 'IN' };

function query(more: packet.Packet = {}): Buffer {
  return packet.encode({
    type: 'query',
    id: 7,
    flags: packet.RECURSION_DESIRED,
    questions: [question],
    ...more,
  });
}

function extension(udpPayloadSize: number): packet.Answer {
  const none = { extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] };
  return { type: 'OPT', name: '.', udpPayloadSize, ...none };
}

function addresses(count: number) {
  return Array.from({ length: count }, (_, n) => parseAddress(`10.0.${n >> 8}.${n & 255}`));
}

function response(bytes: Buffer, count: number, transport: 'udp' | 'tcp' = 'udp') {
  const decoded = decodeQuery(bytes) ?? assert.fail();
  const encoded = encodeResponse(decoded, { addresses: addresses(count) }, transport);
  return { bytes: encoded.length, ...packet.decode(encoded) };
}

test('a response repeats the question as it was asked, with records for a second at most', () => {
  const {
    id,
    questions,
    answers = [],
    flag_ra: isRecursive,
    flag_tc: isCut,
  } = response(query(), 2);
  assert.deepEqual([id, questions?.[0]?.name, isRecursive, isCut], [7, 'Api', true, false]);
  assert.deepEqual(
    answers.map((one) => one.type === 'A' && [one.name, one.data, (one.ttl ?? 99) <= 1]),
    [
      ['Api', '10.0.0.0', true],
      ['Api', '10.0.0.1', true],
    ],
  );
});

test('a datagram is not larger than the client accepts, and marked if records are missing', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 65535 }),
      fc.integer({ max: 300, min: 1 }),
      (size, count) => {
        const limit = Math.min(4096, Math.max(512, size));
        const sent = response(query({ additionals: [extension(size)] }), count);
        assert.ok(sent.bytes <= limit);
        const found = sent.answers?.length ?? 0;
        assert.equal(sent.flag_tc, found < count);
        assert.equal(sent.additionals?.[0]?.type, 'OPT');
        assert.equal(response(query(), count, 'tcp').answers?.length, count);
      },
    ),
  );
  assert.equal(response(query(), 300).flag_tc, true);
  assert.deepEqual(response(query(), 1).additionals, []);
});

test('a message over TCP is never larger than its length can tell', () => {
  const name = Array.from({ length: 4 }, (_, n) => String(n).repeat(60)).join('.');
  const long = query({ questions: [{ ...question, name }] });
  const { bytes, answers = [] } = response(long, 5000, 'tcp');
  assert.ok(bytes <= 65535 && answers.length > 100);
});

test('other messages than a single question of class IN are left to Docker', () => {
  assert.equal(decodeQuery(query({ type: 'response' })), undefined);
  assert.equal(decodeQuery(query({ questions: [] })), undefined);
  assert.equal(decodeQuery(query({ questions: [question, question] })), undefined);
  assert.equal(decodeQuery(query({ questions: [{ ...question, class: 'CH' }] })), undefined);
  const update = query();
  update.writeUInt8(5 << 3, 2);
  assert.equal(decodeQuery(update), undefined);
});

test('no bytes whatever make the decoder throw or hang', () => {
  const any = fc.uint8Array({ maxLength: 600 });
  const header = fc
    .tuple(fc.constantFrom([0, 1, 0, 0], [0, 1, 0, 1], [255, 255, 255, 255]), any)
    .map(([counts, rest]) => [0, 7, 1, 0, ...counts.flatMap((n) => [0, n]), ...rest]);
  fc.assert(
    fc.property(
      fc.oneof(
        any.map((bytes) => [...bytes]),
        header,
      ),
      (bytes) => {
        decodeQuery(Buffer.from(bytes));
      },
    ),
    { numRuns: 2000 },
  );
  // A name that is a pointer to itself.
  decodeQuery(Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]));
});

test('reverse names have an address, others none', () => {
  assert.equal(reverseAddress('1.0.200.10.in-addr.ARPA'), '10.200.0.1');
  const digits = `1.${'0.'.repeat(27)}0.0.d.f`;
  assert.equal(reverseAddress(`${digits}.ip6.arpa`), 'fd00::1');
  for (const other of ['200.10.in-addr.arpa', '1.0.200.300.in-addr.arpa', 'api', 'x.ip6.arpa']) {
    assert.equal(reverseAddress(other), undefined);
  }
});

test('a query that is larger than any is left to Docker', () => {
  assert.ok(decodeQuery(Buffer.concat([query(), Buffer.alloc(1000)])));
  assert.equal(decodeQuery(Buffer.concat([query(), Buffer.alloc(1232)])), undefined);
});
