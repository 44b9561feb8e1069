import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import fc from 'fast-check';
import { briefBlock, concernsHost } from '../model/briefs.ts';
import { block4Type, block6Type } from '../model/kinds/block.ts';
import { decodeBriefBlock, encodeBriefBlock } from './brief-blocks.ts';

/** Values of the wrong type that Calico or another program may have written. */
const odd = fc.constantFrom<unknown>(
  null,
  0,
  1.5,
  -1,
  true,
  '',
  [],
  {},
  [null],
  { a: 1 },
  { a: null },
);

const oftenRight = <Value>(right: fc.Arbitrary<Value>, weight = 60) =>
  fc.oneof({ weight, arbitrary: right }, { weight: 1, arbitrary: odd });

/** A number that is written into the text digit by digit. */
const number = fc
  .oneof(
    { weight: 30, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String) },
    {
      weight: 1,
      arbitrary: fc.constantFrom('1e20', '1.5', '-3', '17873928000000000000.5', '1E3', '2.0'),
    },
  )
  .map((digits) => `#${digits}#`);

const sizes: readonly (readonly [cidr: string, size: number])[] = [
  ['10.1.2.0/29', 8],
  ['10.1.2.8/30', 4],
  ['fd00::/126', 4],
  ['10.1.2.3/32', 1],
  ['10.1.2.1/29', 8],
  ['x', 8],
];

const attributes = fc.record(
  {
    handle_id: oftenRight(fc.constantFrom('h1', ',1e5')),
    secondary: oftenRight(
      fc.dictionary(
        fc.constantFrom('node', 'holders', 'swarm', 'pool', '__proto__'),
        oftenRight(fc.constantFrom('host-a', 'host-b', '')),
        { maxKeys: 3 },
      ),
    ),
    releasedAt: oftenRight(fc.constant('2026-01-01T00:00:00Z')),
    other: odd,
  },
  { requiredKeys: [] },
);

const block = fc.constantFrom(...sizes).chain(([cidr, size]) =>
  fc.record(
    {
      cidr: fc.constant(cidr),
      affinity: oftenRight(fc.constantFrom('host:host-a', 'virtual:x', '', 'host:host-b')),
      hostAffinity: oftenRight(fc.constantFrom('host-a', '')),
      affinity_claim_time: oftenRight(fc.constant('2026-01-01T00:00:00Z')),
      allocations: oftenRight(
        fc.array(oftenRight(fc.constantFrom(null, 0, 1, 7), 200), {
          minLength: size,
          maxLength: size,
        }),
      ),
      unallocated: oftenRight(fc.array(oftenRight(fc.nat(size - 1), 200), { maxLength: size })),
      attributes: oftenRight(fc.array(oftenRight(attributes), { maxLength: 3 })),
      sequenceNumber: oftenRight(number),
      sequenceNumberForAllocation: oftenRight(
        fc.dictionary(fc.constantFrom('0', '1'), oftenRight(number), { maxKeys: 2 }),
      ),
      deleted: oftenRight(fc.boolean()),
      other: odd,
    },
    { requiredKeys: ['cidr', 'allocations'] },
  ),
);

const outcome = <Value>(decode: () => Value) => {
  try {
    return decode();
  } catch {
    return 'unreadable';
  }
};

test('for any stored block, the quick decoder returns the same brief as the schema, or both reject it', () => {
  let readable = 0;
  fc.assert(
    fc.property(block, (value) => {
      const text = JSON.stringify(value).replaceAll(/"#([^#]+)#"/g, '$1');
      const { decode } = value.cidr.includes(':') ? block6Type : block4Type;
      const expected = outcome(() => briefBlock(decode('/key', text)));
      const brief = outcome(() => decodeBriefBlock('/key', text));
      assert.deepEqual(brief, expected, text);
      if (typeof brief === 'string') return;
      readable++;
      // The text in a snapshot is decoded to the same brief; it lacks only the handles.
      const saved = encodeBriefBlock(brief);
      assert.deepEqual(decodeBriefBlock('/key', saved), brief);
      assert.deepEqual(briefBlock(decode('/key', saved)), brief);
    }),
    { numRuns: 5000 },
  );
  assert.ok(readable > 1000, `${readable} of them could be read`);
});

test('a brief has what routes need: the host of the block, and the hosts of borrowed addresses', () => {
  const brief = decodeBriefBlock(
    '/key',
    JSON.stringify({
      cidr: '10.1.2.0/30',
      affinity: 'host:host-a',
      allocations: [0, 1, null, 1],
      unallocated: [2],
      attributes: [{ secondary: { node: 'host-a' } }, { secondary: { node: 'host-b' } }],
      sequenceNumber: 1,
    }),
  );
  assert.deepEqual([brief.cidr, brief.host], ['10.1.2.0/30', 'host-a']);
  assert.deepEqual(brief.borrowed, [
    { address: '10.1.2.1', node: 'host-b' },
    { address: '10.1.2.3', node: 'host-b' },
  ]);
  assert.deepEqual(
    ['host-a', 'host-b', 'host-c'].map((node) => concernsHost(brief, node)),
    [true, true, false],
  );
});

test('blocks of the usual form are decoded without the schema', () => {
  const schemas = [block4Type, block6Type].map((type) => mock.method(type, 'decode'));
  try {
    for (const [cidr, sequenceNumber] of [
      ['10.1.2.0/30', '1787392800000000000'],
      ['fd00::/126', '7'],
    ] as const) {
      const text = JSON.stringify({
        cidr,
        affinity: 'host:host-a',
        affinity_claim_time: '2026-01-01T00:00:00Z',
        strictAffinity: false,
        allocations: [0, 1, null, null],
        unallocated: [2, 3],
        attributes: [
          { handle_id: 'h', secondary: { node: 'host-a' }, releasedAt: '2026-01-01T00:00:00Z' },
          {},
        ],
        deleted: false,
        sequenceNumber: 0,
        sequenceNumberForAllocation: { 0: 5 },
      }).replace('"sequenceNumber":0', `"sequenceNumber":${sequenceNumber}`);
      const brief = decodeBriefBlock('/key', text);
      assert.deepEqual([brief.cidr, brief.host, brief.hasFree], [cidr, 'host-a', true]);
      assert.deepEqual(decodeBriefBlock('/key', encodeBriefBlock(brief)), brief);
    }
    assert.ok(schemas.every((schema) => schema.mock.callCount() === 0));
  } finally {
    for (const schema of schemas) schema.mock.restore();
  }
});

test('texts that are not JSON objects are rejected', () => {
  for (const text of ['', '{', 'null', '[]', '3']) {
    assert.equal(
      outcome(() => decodeBriefBlock('/key', text)),
      'unreadable',
    );
  }
});
