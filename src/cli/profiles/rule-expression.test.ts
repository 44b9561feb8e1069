import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRuleExpression, ruleExpression } from './rule-expression.ts';

const examples: readonly (readonly [words: string, rule: object])[] = [
  ['allow', { action: 'Allow' }],
  [
    'allow tcp from tag other to ports 8080',
    {
      action: 'Allow',
      protocol: 'TCP',
      source: { selector: 'has(other)' },
      destination: { ports: [8080] },
    },
  ],
  [
    'deny udp from ports 53,1000:2000 cidr 10.0.0.0/8 to cidr 192.0.2.1/32',
    {
      action: 'Deny',
      protocol: 'UDP',
      source: { ports: [53, '1000:2000'], nets: ['10.0.0.0/8'] },
      destination: { nets: ['192.0.2.1/32'] },
    },
  ],
  ['deny icmp type 8 code 0', { action: 'Deny', protocol: 'ICMP', icmp: { type: 8, code: 0 } }],
  ['allow from tag My_Net.X', { action: 'Allow', source: { selector: 'has(My_Net.X)' } }],
];

for (const [words, rule] of examples) {
  test(`"${words}" is parsed, and formatted the same`, () => {
    const parsed = parseRuleExpression(words.split(' '));
    assert.deepEqual(parsed, rule);
    assert.equal(ruleExpression(parsed), words);
  });
}

for (const [wrong, message] of [
  ['permit', /"permit": must be allow/],
  ['allow tcp from', /missing at the end/],
  ['allow from nobody', /"nobody": must be ports, tag, cidr or selector/],
  ['allow tcp to ports http$', /"http\$": must be ports such as/],
  ['allow to cidr 10.0.0.1/8', /host bits/],
  ['', /an action is missing/],
] as const) {
  test(`"${wrong}" is rejected with the invalid argument`, () => {
    assert.throws(
      () => parseRuleExpression(wrong.split(' ').filter((word) => word !== '')),
      message,
    );
  });
}

test('fields without an expression are shown as JSON', () => {
  const shown = ruleExpression({ action: 'Allow', source: { notSelector: 'has(a)' } });
  assert.equal(shown, 'allow {"source":{"notSelector":"has(a)"}}');
});
