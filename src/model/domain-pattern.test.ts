import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DomainIndex, domainProblem } from './domain-pattern.ts';

for (const domain of [
  'example.com',
  'API.example.com.',
  'localhost',
  '*.example.com',
  'update.*.example.com',
  'example.*',
  '_sip._tcp.example.com',
]) {
  test(`${domain} is a domain of a network set`, () =>
    assert.equal(domainProblem(domain), undefined));
}

for (const domain of [
  '',
  '*',
  '*.*',
  '*.a.*.b',
  'a*.example.com',
  'a..b',
  '.a',
  'a b',
  '-a.b',
  '10.0.0.0/8',
  `${'a.'.repeat(127)}a`,
]) {
  test(`"${domain.slice(0, 20)}" is none`, () =>
    assert.match(domainProblem(domain) ?? '', /must be a domain name/));
}

for (const [domain, names, others] of [
  [
    'Example.com.',
    ['example.com', 'EXAMPLE.COM'],
    ['a.example.com', 'example.com.evil.org', 'xexample.com'],
  ],
  [
    '*.example.com',
    ['a.example.com', 'a.b.example.com'],
    ['example.com', '.example.com', 'aexample.com', 'a.example.com.evil.org'],
  ],
  [
    'update.*.example.com',
    ['update.a.example.com'],
    ['update.example.com', 'a.update.b.example.com'],
  ],
] as const) {
  test(`${domain} matches whole components only`, () => {
    const index = new DomainIndex();
    index.set('set', [domain]);
    for (const name of names) assert.deepEqual(index.ownersOf(name), ['set'], name);
    for (const name of others) assert.deepEqual(index.ownersOf(name), [], name);
    index.set('set', []);
    for (const name of names) assert.deepEqual(index.ownersOf(name), [], name);
  });
}

test('a domain belongs to its other owners when one gives it up', () => {
  const index = new DomainIndex();
  for (const domain of ['a.test', '*.a.test', 'b.*']) {
    index.set('one', [domain, domain]);
    index.set('two', [domain]);
    const name = domain.replace('*', 'x');
    assert.deepEqual(index.ownersOf(name), ['one', 'two']);
    assert.equal(index.hasExactly(name), domain === 'a.test');
    index.set('one', ['other.test']);
    assert.deepEqual(index.ownersOf(name), ['two']);
  }
});

test('a query takes no longer with ten thousand domains', () => {
  const queries = Array.from({ length: 2000 }, (_, n) => `${n}.example.com`);
  /** Microseconds of CPU time for the queries, of which each has one domain. */
  const costOf = (count: number) => {
    const index = new DomainIndex();
    const of = (what: string) => Array.from({ length: count }, (_, n) => `${what}${n}.example.com`);
    index.set('one', [...of('n'), ...of('*.w')]);
    const before = process.cpuUsage();
    for (const name of queries) assert.equal(index.ownersOf(`x.w${name}`).length, 1);
    for (const name of queries) assert.equal(index.ownersOf(`none${name}`).length, 0);
    return process.cpuUsage(before).user;
  };
  const [few, many] = [2000, 100_000].map((count) =>
    Math.min(costOf(count), costOf(count), costOf(count)),
  );
  // The clock of CPU time ticks every few milliseconds; in a search through all it would be seconds.
  assert.ok(Number(many) < 10 * Number(few) + 50_000, `${few} and ${many} µs`);
});
