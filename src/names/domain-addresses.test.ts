import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../ip/address.ts';
import { DomainAddresses } from './domain-addresses.ts';

const [one, two] = [parseAddress('192.0.2.1'), parseAddress('2001:db8::2')];

test('the addresses of a name are members of the sets with a domain that matches', () => {
  const addresses = new DomainAddresses();
  addresses.setDomains('a', ['api.example.com', '*.example.org']);
  addresses.setDomains('b', ['*.example.com']);
  assert.deepEqual(addresses.add('API.example.com', [{ address: one, ttl: 300 }], 0), ['a', 'b']);
  assert.deepEqual(addresses.add('api.example.com', [{ address: one, ttl: 300 }], 0), []);
  assert.deepEqual(addresses.add('www.example.org', [{ address: two, ttl: 300 }], 0), ['a']);
  assert.deepEqual(addresses.addressesOf('a'), [one, two]);
  assert.deepEqual(addresses.addressesOf('b'), [one]);
  addresses.setDomains('a', ['*.example.org']);
  assert.deepEqual(addresses.addressesOf('a'), [two]);
  addresses.setDomains('b', []);
  assert.deepEqual(addresses.counts, { sets: 1, names: 1, addresses: 1 });
});

test('an address is kept for its TTL, for a minute at least, and as long as one of its names is', () => {
  const addresses = new DomainAddresses();
  addresses.setDomains('a', ['*.example.com']);
  addresses.add('x.example.com', [{ address: one, ttl: 1 }], 0);
  addresses.add('y.example.com', [{ address: one, ttl: 600 }], 0);
  assert.deepEqual(addresses.expire(60_000), []);
  assert.deepEqual(addresses.expire(90_000), ['a']);
  assert.deepEqual(addresses.addressesOf('a'), [one], 'by the other name');
  addresses.add('y.example.com', [{ address: one, ttl: 1 }], 100_000);
  assert.deepEqual(addresses.expire(600_000), [], 'a shorter TTL does not end it');
  assert.deepEqual(addresses.expire(630_000), ['a']);
  assert.deepEqual(addresses.addressesOf('a'), []);
});

test('however many names containers query, only some thousands are kept', () => {
  const addresses = new DomainAddresses();
  addresses.setDomains('a', ['*.example.com']);
  let kept = 0;
  for (let n = 0; n < 10_000; n++) {
    const name = `${n}.example.com`;
    if (!addresses.hasRoom(name)) continue;
    kept++;
    addresses.add(name, [{ address: one, ttl: 1 }], 0);
  }
  assert.equal(kept, 4096);
  assert.ok(addresses.hasRoom('1.example.com'));
});

test('a set has exactly the addresses of matching names that have not expired', () => {
  const event = fc.record({
    name: fc.constantFrom('a.test', 'b.test', 'a.other'),
    address: fc.constantFrom(one, two),
    ttl: fc.integer({ min: 0, max: 300 }),
    after: fc.integer({ min: 0, max: 100_000 }),
  });
  fc.assert(
    fc.property(fc.array(event), (events) => {
      const addresses = new DomainAddresses();
      addresses.setDomains('s', ['*.test']);
      const expected = new Map<string, number>();
      let now = 0;
      for (const { name, address, ttl, after } of events) {
        now += after;
        addresses.expire(now);
        addresses.add(name, [{ address, ttl }], now);
        if (name.endsWith('.test')) {
          const key = `${name} ${address}`;
          const expiry = now + (Math.max(ttl, 60) + 30) * 1000;
          const before = expected.get(key) ?? 0;
          expected.set(key, Math.max(before > now ? before : 0, expiry));
        }
        const alive = [...expected].filter(([, at]) => at > now).map(([key]) => key.split(' ')[1]);
        assert.deepEqual(new Set(addresses.addressesOf('s')), new Set(alive));
      }
    }),
  );
});
