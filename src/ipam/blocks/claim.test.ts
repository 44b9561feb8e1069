import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Draft } from '../../datastore/writer.ts';
import { addressFromNumber } from '../../ip/address.ts';
import {
  cidrFamily,
  cidrOf,
  cidrSize,
  addressAt,
  cidrsOverlap,
  parseCidr,
  type Cidr,
} from '../../ip/cidr.ts';
import { expectBlocksWithin, expectNoOverlap } from './claim.ts';

/** Few bits are set, so that runs of zeros of every length are written as `::`. */
const blocks = fc
  .record({
    family: fc.constantFrom(4 as const, 6 as const),
    hextets: fc.array(fc.constantFrom<bigint[]>(0n, 0n, 1n, 0x40n, 0xfd00n, 0xffffn), {
      minLength: 8,
      maxLength: 8,
    }),
    lengths: fc.tuple(fc.nat(12), fc.nat(12)),
    offset: fc.nat(0xfff),
  })
  .map(({ family, hextets, lengths: [first, second], offset }) => {
    const shortest = family === 4 ? 20 : 116;
    const number = hextets
      .slice(family === 4 ? 6 : 0)
      .reduce((sum, part) => (sum << 16n) | part, 0n);
    const own = cidrOf(addressFromNumber(number, family), shortest + first);
    const inside = addressAt(own, BigInt(offset) % cidrSize(own));
    return { own, other: cidrOf(inside, shortest + second) };
  });

test('a concurrent block that overlaps the claimed one is detected, in both families', () => {
  fc.assert(
    fc.property(blocks, ({ own, other }) => {
      assert.ok(cidrsOverlap(own, other));
      assert.ok(isNoticed(own, other), `${other} is not noticed beside ${own}`);
    }),
    { numRuns: 5000 },
  );
});

test('blocks elsewhere may change', () => {
  assert.ok(
    !isNoticed(
      cidrOf(addressFromNumber(0x0a090000n, 4), 26),
      cidrOf(addressFromNumber(0x0a090100n, 4), 26),
    ),
  );
});

function isNoticed(own: Cidr, other: Cidr): boolean {
  const prefixes: string[] = [];
  const ids: string[] = [];
  const kinds = new Set<string>();
  const draft: Pick<Draft, 'expect' | 'expectNoNew'> = {
    expect: (kind, id) => void (kinds.add(kind), ids.push(id)),
    expectNoNew: (kind, prefix) => void (kinds.add(kind), prefixes.push(prefix)),
  };
  expectNoOverlap(draft, own);
  assert.deepEqual([...kinds], [cidrFamily(own) === 4 ? 'Block4' : 'Block6']);
  return ids.includes(other) || prefixes.some((prefix) => other.startsWith(prefix));
}

test('a network is compared with all blocks inside it, and with few others', () => {
  const prefixesOf = (network: string) => {
    const prefixes: string[] = [];
    expectBlocksWithin(
      { expectNoNew: (_, prefix) => void prefixes.push(prefix) },
      parseCidr(network),
    );
    return prefixes;
  };
  const compares = (network: string, block: string) =>
    prefixesOf(network).some((prefix) => parseCidr(block).startsWith(prefix));
  for (const [network, inside] of [
    ['10.65.0.0/16', '10.65.255.192/26'],
    ['10.64.0.0/12', '10.79.255.192/26'],
    ['fd00:65::/48', 'fd00:65:0:1::/122'],
    ['fd00:65::/64', 'fd00:65::1:0:0:40/122'],
    ['fd00:65::40:0/112', 'fd00:65::40:40/122'],
  ] as const)
    assert.ok(compares(network, inside), `${inside} in ${network}`);
  for (const [network, elsewhere] of [
    ['10.65.0.0/16', '10.66.0.0/26'],
    ['fd00:65::40:0/112', 'fd00:65::41:40/122'],
    ['fd00:65::40:0/112', 'fd00:66::40:40/122'],
  ] as const)
    assert.ok(!compares(network, elsewhere), `${elsewhere} beside ${network}`);
});
