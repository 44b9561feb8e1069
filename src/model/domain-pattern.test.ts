import assert from 'node:assert/strict';
import { test } from 'node:test';
import { domainProblem, matchesDomain } from './domain-pattern.ts';

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
    for (const name of names) assert.ok(matchesDomain(domain, name), name);
    for (const name of others) assert.ok(!matchesDomain(domain, name), name);
  });
}
