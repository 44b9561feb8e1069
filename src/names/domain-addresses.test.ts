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
  assert.ok(addresses.isFull);
  assert.ok(addresses.hasRoom('1.example.com'));
  addresses.setDomains('b', ['api.example.org']);
  assert.ok(addresses.hasRoom('api.example.org'), 'one that a set names');
});

test('however many addresses the owner of a domain gives, only some thousands are kept', () => {
  const addresses = new DomainAddresses();
  addresses.setDomains('a', ['*.example.com']);
  const from = (start: number) =>
    Array.from({ length: 1000 }, (_, n) =>
      parseAddress(`10.${start}.${Math.floor(n / 250)}.${n % 250}`),
    );
  for (let n = 0; n < 100; n++) {
    const name = n < 50 ? 'one.example.com' : `${n}.example.com`;
    if (!addresses.hasRoomFor(name, from(n))) continue;
    const records = from(n).map((address) => ({ address, ttl: 1 }));
    addresses.add(name, records, 0);
  }
  assert.deepEqual(addresses.counts, { sets: 1, names: 29, addresses: 32_000 });
  assert.ok(addresses.hasRoomFor('one.example.com', from(0)), 'known addresses have their place');
  addresses.expire(90_000);
  assert.ok(addresses.hasRoomFor('one.example.com', from(99)));
});

test('of addresses that have expired, some thousands are remembered, the latest', () => {
  const addresses = new DomainAddresses();
  addresses.setDomains('a', ['*.example.com']);
  const at = (n: number) => parseAddress(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
  for (let n = 0; n < 20_000; n++) {
    addresses.add(`${n % 20}.example.com`, [{ address: at(n), ttl: 1 }], n * 100_000);
    addresses.expire(n * 100_000 + 90_000);
  }
  assert.deepEqual(addresses.formerSetsOf(at(19_999)), ['a']);
  assert.deepEqual(addresses.formerSetsOf(at(3_616)), ['a']);
  assert.deepEqual(addresses.formerSetsOf(at(3_615)), []);
});

test('a change takes no longer with many domains and names', () => {
  /** Microseconds of CPU time for 2000 names, beside others with as many domains. */
  const costOf = (count: number) => {
    const addresses = new DomainAddresses();
    const names = Array.from({ length: count }, (_, n) => `n${n}.example.com`);
    addresses.setDomains('a', names);
    const add = (name: string) => addresses.add(name, [{ address: one, ttl: 1 }], 0);
    for (const name of names.slice(2000)) add(name);
    const before = process.cpuUsage();
    for (const name of names.slice(0, 2000)) add(name);
    return process.cpuUsage(before).user;
  };
  const [few, many] = [4000, 80_000].map((count) =>
    Math.min(costOf(count), costOf(count), costOf(count)),
  );
  // The clock of CPU time ticks every few milliseconds; in a search through all it would be seconds.
  assert.ok(Number(many) < 10 * Number(few) + 50_000, `${few} and ${many} µs`);
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
