import assert from 'node:assert/strict';
import { isIP, SocketAddress } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addressBits,
  addressFromBytes,
  addressFromNumber,
  addressToBytes,
  addressToNumber,
  familyOf,
  parseAddress,
  tryParseAddress,
} from './address.ts';
import { anyAddress, anyFamily } from './ip.fixture.ts';

test('an address survives a round trip through text, number and bytes', () => {
  fc.assert(
    fc.property(anyAddress, (address) => {
      assert.equal(parseAddress(address), address);
      assert.equal(addressFromNumber(addressToNumber(address), familyOf(address)), address);
      assert.equal(addressFromBytes(addressToBytes(address)), address);
    }),
  );
});

test('every number of a family is one address, and different numbers have different texts', () => {
  fc.assert(
    fc.property(anyFamily, fc.bigInt(0n, 2n ** 128n - 1n), (family, any) => {
      const number = any % 2n ** BigInt(addressBits(family));
      const address = addressFromNumber(number, family);
      assert.equal(isIP(address), family);
      assert.equal(addressToNumber(address), number);
    }),
  );
});

test('every spelling of an address is parsed to the same one', () => {
  const groups = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), {
    minLength: 8,
    maxLength: 8,
  });
  fc.assert(
    fc.property(groups, fc.boolean(), fc.boolean(), (parts, isPadded, isUpper) => {
      const plain = parts
        .map((part) => part.toString(16).padStart(isPadded ? 4 : 1, '0'))
        .join(':');
      const number = parts.reduce((sum, part) => (sum << 16n) | BigInt(part), 0n);
      const text = isUpper ? plain.toUpperCase() : plain;
      assert.equal(parseAddress(text), addressFromNumber(number, 6));
      assert.equal(addressToNumber(parseAddress(text)), number);
    }),
  );
});

test('IPv6 is written as Node writes it, except mapped IPv4', () => {
  fc.assert(
    fc.property(anyAddress, (address) => {
      if (familyOf(address) === 4 || address.includes('.')) return;
      const { address: written } = new SocketAddress({ address, family: 'ipv6' });
      // Node writes the deprecated IPv4-compatible form with dots, which RFC 5952 does not require.
      if (!written.includes('.')) assert.equal(address, written);
    }),
  );
});

// RFC 5952, sections 2 and 4.
for (const [written, canonical] of [
  ['2001:DB8::1', '2001:db8::1'],
  ['2001:0db8:0:0:0:0:0:0001', '2001:db8::1'],
  ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
  ['2001:db8::0:1', '2001:db8::1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['0:0:0:0:0:0:0:1', '::1'],
  ['fe80:0:0:0:0:0:0:0', 'fe80::'],
  ['::FFFF:192.0.2.1', '::ffff:192.0.2.1'],
  ['::ffff:c000:201', '::ffff:192.0.2.1'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ['192.0.2.1', '192.0.2.1'],
] as const) {
  test(`${written} is written ${canonical}`, () => assert.equal(parseAddress(written), canonical));
}

test('invalid addresses, as defined by node:net, and zones are rejected', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4/32',
    ':::',
    '1::2::3',
    'fe80::1%eth0',
    'web',
    ' ::1',
  ]) {
    assert.equal(tryParseAddress(text), undefined, text);
    assert.throws(() => parseAddress(text), /is not an IP address/);
  }
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.equal(tryParseAddress(text) === undefined, isIP(text) === 0 || text.includes('%'));
    }),
  );
});
