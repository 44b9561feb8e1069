import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { selectorId } from '../../model/selector/canonical.ts';
import type { SetFault } from '../../ruleset/address-set.ts';
import { selectorSet } from '../../ruleset/names.ts';
import { compileProfile } from './compiled-profile.ts';
import { failOpenRisk } from './fail-open.ts';

const set = selectorSet(4, selectorId(parseSelector('has(bad)')));

function closes(rule: PolicyRule, fault: Partial<SetFault>): boolean {
  const compiled = compileProfile('p', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { ingress: [rule] },
  });
  const whole = { absent: undefined, lacks: undefined, exceeds: undefined, ...fault };
  return failOpenRisk(compiled, 4, new Map([[set, whole]])) !== undefined;
}

test('a set that lacks members, or has too many, makes only those Profiles deny everything that would allow more', () => {
  const positive = { selector: 'has(bad)' };
  const negative = { notSelector: 'has(bad)' };
  const cases: readonly (readonly [
    PolicyRule['action'],
    typeof positive | typeof negative,
    string,
  ])[] = [
    ['Allow', positive, 'exceeds'],
    ['Allow', negative, 'lacks'],
    ['Deny', positive, 'lacks'],
    ['Deny', negative, 'exceeds'],
    ['Pass', positive, 'lacks exceeds'],
    ['Pass', negative, 'lacks exceeds'],
    ['Log', positive, ''],
  ];
  for (const [action, entity, closing] of cases) {
    for (const side of ['source', 'destination'] as const) {
      const rule: PolicyRule = { action, [side]: entity };
      for (const fault of ['lacks', 'exceeds']) {
        const name = `${action} ${JSON.stringify(entity)} ${fault}`;
        assert.equal(closes(rule, { [fault]: 'why' }), closing.includes(fault), name);
      }
      assert.ok(closes(rule, { absent: 'why' }), 'a rule cannot name a set that is not there');
    }
  }
  assert.ok(!closes({ action: 'Deny' }, { lacks: 'why' }));
});
