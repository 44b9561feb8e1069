import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBits, addressToNumber, familyOf, type IpAddress } from './address.ts';
import {
  addressAt,
  cidrContains,
  cidrCovers,
  cidrFamily,
  cidrOf,
  networksOf,
  cidrSize,
  cidrsOverlap,
  halves,
  hostCidr,
  offsetIn,
  parseCidr,
  parseInterfaceAddress,
  parseNet,
  splitCidr,
  subnetAt,
  type Cidr,
} from './cidr.ts';
import { addressesOf, anyAddress, anyCidr, anyFamily, cidrsOf } from './ip.fixture.ts';

/** The model: a network as its first and last number. */
function range(cidr: Cidr): readonly [first: bigint, last: bigint] {
  const { address } = splitCidr(cidr);
  const first = addressToNumber(address);
  return [first, first + cidrSize(cidr) - 1n];
}

/** Networks near each other, so that overlaps are common. */
const twoCidrs = anyFamily.chain((family) =>
  fc
    .tuple(cidrsOf(family), fc.nat(addressBits(family)), fc.boolean(), cidrsOf(family))
    .map(([a, length, isNear, other]): readonly [Cidr, Cidr] => [
      a,
      isNear ? cidrOf(splitCidr(a).address, length) : other,
    ]),
);

test('a network survives a round trip through its text and its parts', () => {
  fc.assert(
    fc.property(anyCidr, (cidr) => {
      assert.equal(parseCidr(cidr), cidr);
      const { address, prefixLength } = splitCidr(cidr);
      assert.equal(cidrOf(address, prefixLength), cidr);
      assert.deepEqual(parseInterfaceAddress(cidr), { address, prefixLength });
      assert.equal(cidrFamily(cidr), familyOf(address));
    }),
  );
});

test('a single address is its /32 or /128', () => {
  fc.assert(
    fc.property(anyAddress, (address) => {
      assert.equal(parseNet(address), hostCidr(address));
      assert.equal(cidrSize(hostCidr(address)), 1n);
      assert.equal(splitCidr(hostCidr(address)).address, address);
    }),
  );
});

test('a network with host bits is rejected, and the error names the network', () => {
  fc.assert(
    fc.property(anyAddress, fc.nat(128), (address, any) => {
      const prefixLength = any % (addressBits(familyOf(address)) + 1);
      const cidr = cidrOf(address, prefixLength);
      const text = `${address}/${prefixLength}`;
      if (cidr === text) assert.equal(parseCidr(text), cidr);
      else assert.throws(() => parseCidr(text), new RegExp(`the network is ${cidr}$`));
    }),
  );
});

test('contains agrees with the numbers, and with Node', () => {
  const pair = anyFamily.chain((family) =>
    fc.tuple(cidrsOf(family), addressesOf(family), fc.bigInt(0n, 2n ** 128n)),
  );
  fc.assert(
    fc.property(pair, ([cidr, other, offset]) => {
      const inside = addressAt(cidr, offset % cidrSize(cidr));
      assert.ok(cidrContains(cidr, inside));
      assert.equal(addressAt(cidr, offsetIn(cidr, inside)), inside);
      const [first, last] = range(cidr);
      const number = addressToNumber(other);
      assert.equal(cidrContains(cidr, other), first <= number && number <= last);
      assert.equal(cidrContains(cidr, other), nodeContains(cidr, other));
    }),
  );
});

function nodeContains(cidr: Cidr, address: IpAddress): boolean {
  const { address: first, prefixLength } = splitCidr(cidr);
  const family = familyOf(address) === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(first, prefixLength, family);
  return list.check(address, family);
}

test('covers and overlaps agree with the numbers', () => {
  fc.assert(
    fc.property(twoCidrs, ([a, b]) => {
      const [firstA, lastA] = range(a);
      const [firstB, lastB] = range(b);
      assert.equal(cidrCovers(a, b), firstA <= firstB && lastB <= lastA);
      assert.equal(cidrsOverlap(a, b), firstA <= lastB && firstB <= lastA);
      assert.equal(cidrsOverlap(a, b), cidrsOverlap(b, a));
      assert.ok(cidrCovers(a, a));
      if (cidrCovers(a, b) && cidrCovers(b, a)) assert.equal(a, b);
    }),
  );
});

test('networks of different families never overlap', () => {
  fc.assert(
    fc.property(cidrsOf(4), cidrsOf(6), (four, six) => {
      assert.ok(!cidrsOverlap(four, six));
      assert.ok(!cidrCovers(six, four));
      assert.ok(!cidrContains(six, splitCidr(four).address));
    }),
  );
});

test('subnets of a network are of equal size, consecutive, and fill it', () => {
  fc.assert(
    fc.property(anyCidr, fc.integer({ min: 0, max: 6 }), (cidr, more) => {
      const { prefixLength } = splitCidr(cidr);
      const longer = Math.min(prefixLength + more, addressBits(cidrFamily(cidr)));
      const count = 1n << BigInt(longer - prefixLength);
      let next = range(cidr)[0];
      for (let index = 0n; index < count; index++) {
        const subnet = subnetAt(cidr, longer, index);
        const [first, last] = range(subnet);
        assert.ok(cidrCovers(cidr, subnet));
        assert.equal(first, next);
        next = last + 1n;
      }
      assert.equal(next, range(cidr)[1] + 1n);
      if (cidrSize(cidr) > 1n) {
        assert.deepEqual(halves(cidr), [
          subnetAt(cidr, prefixLength + 1, 0n),
          subnetAt(cidr, prefixLength + 1, 1n),
        ]);
      }
    }),
  );
});

test('invalid networks are rejected', () => {
  for (const text of [
    '',
    '10.0.0.0',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0/8',
    '10.0.0.0/-1',
    '10.0.0.0/8 ',
    'web/8',
  ]) {
    assert.throws(() => parseCidr(text), /is not a CIDR/, text);
  }
});

test('the networks of an address are those of each prefix length in the range, the longest first', () => {
  fc.assert(
    fc.property(anyAddress, fc.nat(128), fc.nat(128), (address, a, b) => {
      const [shortest, longest] = [a, b]
        .map((length) => length % (addressBits(familyOf(address)) + 1))
        .toSorted((x, y) => x - y);
      assert.ok(shortest !== undefined && longest !== undefined);
      const lengths = Array.from({ length: longest - shortest + 1 }, (_, n) => longest - n);
      assert.deepEqual(
        [...networksOf(address, { longest, shortest })],
        lengths.map((length) => cidrOf(address, length)),
      );
    }),
  );
});
