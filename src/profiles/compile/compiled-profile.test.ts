import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { compileProfile } from './compiled-profile.ts';

function problemOf(rule: PolicyRule): string | undefined {
  return compileProfile('p', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { ingress: [rule] },
  }).problem;
}

const ports = [80];
const named = ['web'];

test('a stored rule that cannot be enforced makes its Profile deny everything, with the reason', () => {
  for (const [rule, reason] of [
    [{ destination: { ports } }, /ports need a protocol/],
    [{ source: { notPorts: ports } }, /ports need a protocol/],
    [{ protocol: 'ICMP', destination: { ports } }, /ports need a protocol/],
    [{ protocol: 'ICMP', destination: { ports: named } }, /ports need a protocol/],
    [{ icmp: { type: 8 } }, /icmp needs protocol ICMP/],
    [{ protocol: 'TCP', notICMP: { type: 8 } }, /icmp needs protocol ICMP/],
    [{ protocol: 'ICMP', icmp: { code: 1 } }, /an icmp code needs its type/],
  ] as const)
    assert.match(problemOf({ action: 'Allow', ...rule }) ?? '', reason, JSON.stringify(rule));
});

test('rules that can be enforced are not rejected', () => {
  for (const rule of [
    {},
    { protocol: 'TCP', destination: { ports } },
    { protocol: 'SCTP', source: { notPorts: ports } },
    { destination: { ports: named } },
    { protocol: 'UDP', destination: { notPorts: named } },
    { protocol: 'ICMP', icmp: { type: 8, code: 0 } },
    { protocol: 'ICMPv6', notICMP: { type: 128 } },
  ] as const)
    assert.equal(problemOf({ action: 'Allow', ...rule }), undefined, JSON.stringify(rule));
});
