import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { selectorId } from '../../model/selector/canonical.ts';
import type { SetFault } from '../../ruleset/address-set.ts';
import { namedPortSet, selectorSet } from '../../ruleset/names.ts';
import type { NamedPort } from '../../ruleset/policy.ts';
import { compileProfile } from './compiled-policy.ts';
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

test('the reason names the rule, whichever of its sets is out of sync', () => {
  const compiled = compileProfile('p', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: {
      ingress: [{ action: 'Allow' }, { action: 'Allow', source: { ports: ['http', 'dns'] } }],
      egress: [{ action: 'Allow', destination: { notPorts: ['http', 'sip'] } }],
    },
  });
  const [, ofSource] = compiled.ingress;
  const [ofDestination] = compiled.egress;
  const risk = (port: NamedPort | undefined, fault: Partial<SetFault>) => {
    const whole = { absent: undefined, lacks: undefined, exceeds: undefined, ...fault };
    const set = namedPortSet(4, port?.id ?? '');
    return failOpenRisk(compiled, 4, new Map([[set, whole]]));
  };
  for (const port of ofSource?.source.namedPorts ?? []) {
    assert.equal(risk(port, { exceeds: 'too many' }), 'ingress rule 2: too many');
  }
  assert.equal(risk(ofSource?.source.namedPorts[1], { lacks: 'too few' }), undefined);
  const [, sip] = ofDestination?.destination.notNamedPorts ?? [];
  assert.equal(risk(sip, { lacks: 'too few' }), 'egress rule 1: too few');
  assert.equal(risk(sip, { exceeds: 'too many' }), undefined);
});
