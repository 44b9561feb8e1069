import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EntityRule, PolicyRule } from '../../model/policy-rule.ts';
import { selectorId } from '../../model/selector/canonical.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { compilePolicy, compileProfile } from './compiled-policy.ts';

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
    [{ http: { methods: ['GET'] } }, /http rules are not supported/],
    [{ destination: { services: { name: 'x' } } }, /services are not supported/],
    [{ source: { serviceAccounts: { names: ['x'] } } }, /serviceAccounts .* are not supported/],
  ] as const)
    assert.match(problemOf({ action: 'Allow', ...rule }) ?? '', reason, JSON.stringify(rule));
});

test('rules that can be enforced are not rejected', () => {
  for (const rule of [
    {},
    { metadata: { annotations: { owner: 'a' } } },
    { protocol: 'TCP', destination: { ports } },
    { protocol: 'SCTP', source: { notPorts: ports } },
    { destination: { ports: named } },
    { protocol: 'UDP', destination: { notPorts: named } },
    { protocol: 'ICMP', icmp: { type: 8, code: 0 } },
    { protocol: 'ICMPv6', notICMP: { type: 128 } },
  ] as const)
    assert.equal(problemOf({ action: 'Allow', ...rule }), undefined, JSON.stringify(rule));
});

// Left: an entity of a rule; right: the text that Calico's client makes of it, of which the set's name is a hash. Source:
// libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go, getEndpointSelector.
const own = "projectcalico.org/namespace == 'shop'";
const texts: readonly (readonly [EntityRule, inNamespace?: string, global?: string])[] = [
  [
    { selector: "a == 'b' && c == 'd'" },
    `(${own}) && (a == 'b' && c == 'd')`,
    "a == 'b' && c == 'd'",
  ],
  [
    { selector: 'has(a)', notSelector: '!has(b)' },
    `((${own}) && (has(a))) && (!(!has(b)))`,
    'has(a) && (!(!has(b)))',
  ],
  [{ notSelector: 'has(a)' }, `(${own}) && (!(has(a)))`],
  [{ namespaceSelector: 'all()' }, 'has(projectcalico.org/namespace)'],
  [{ namespaceSelector: 'global()' }, '!has(projectcalico.org/namespace)'],
  [{ namespaceSelector: '!global()' }, '!!has(projectcalico.org/namespace)'],
  [
    { namespaceSelector: "team in {'b', 'a'} || !has(x)" },
    "pcns.team in {'a', 'b'} || !has(pcns.x)",
  ],
  [
    { namespaceSelector: "team == 'a'", selector: "b starts with 'c'" },
    "(pcns.team == 'a') && (b starts with 'c')",
  ],
  [{ nets: [] }],
];
for (const [entity, inNamespace, global] of texts) {
  test(`the set of ${JSON.stringify(entity)} has the ID that Calico gives it`, () => {
    const idIn = (policy: Parameters<typeof compilePolicy>[0]) => {
      const ingress = [{ action: 'Allow' as const, source: entity }];
      return compilePolicy(policy, { ingress }).ingress[0]?.source.selected?.id;
    };
    const idOf = (text: string | undefined) => text && selectorId(parseSelector(text));
    const name = { tier: 'default', name: 'p' };
    assert.equal(idIn({ kind: 'NetworkPolicy', namespace: 'shop', ...name }), idOf(inNamespace));
    const ofGlobal = 'selector' in entity || 'notSelector' in entity ? global : inNamespace;
    const expected = 'namespaceSelector' in entity ? inNamespace : ofGlobal;
    assert.equal(idIn({ kind: 'GlobalNetworkPolicy', ...name }), idOf(expected));
  });
}
