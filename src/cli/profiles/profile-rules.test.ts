import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { combinationsOfFields, rulesWith } from '../../../test/lab/rule-grammar.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { profileProblem, type Profile } from '../../model/kinds/profile.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { selectorId } from '../../model/selector/canonical.ts';
import { compileProfile } from '../../profiles/compile/compiled-policy.ts';
import { startCommandLine } from '../command-line.fixture.ts';

function profileOf(rule: PolicyRule): Profile {
  return {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { ingress: [rule] },
  };
}

test('every rule that apply accepts is enforced', () => {
  let taken = 0;
  const rule = fc
    .constantFrom(...combinationsOfFields())
    .chain((fields) => rulesWith(fields))
    .filter((one) => profileProblem(profileOf(one)) === undefined);
  fc.assert(
    fc.property(rule, (one) => {
      taken++;
      assert.equal(compileProfile('p', profileOf(one)).problem, undefined);
    }),
    { numRuns: 2000 },
  );
  assert.ok(taken >= 2000);
});

test('a namespace selector selects labels inherited from the namespace, as in Felix', () => {
  const compiled = (source: NonNullable<PolicyRule['source']>) => {
    const { ingress, problem } = compileProfile('p', profileOf({ action: 'Allow', source }));
    assert.equal(problem, undefined);
    return ingress[0]?.source.selected?.id;
  };
  for (const [namespaceSelector, selector, meaning] of [
    ['all()', undefined, 'has(projectcalico.org/namespace)'],
    ['global()', undefined, '!has(projectcalico.org/namespace)'],
    ["team == 'a' && !has(old)", undefined, "pcns.team == 'a' && !has(pcns.old)"],
    ["x in {'a'}", "role == 'web'", "(pcns.x in {'a'}) && (role == 'web')"],
    ['', "role == 'web'", "role == 'web'"],
  ] as const) {
    const source = { namespaceSelector, ...(selector === undefined ? {} : { selector }) };
    assert.equal(compiled(source), selectorId(parseSelector(meaning)), namespaceSelector);
  }
});

test('actions are parsed case-insensitively and stored in the form of Calico', async () => {
  using cli = startCommandLine();
  const document =
    'apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: p}\nspec: {ingress: [{action: allow}, {action: DENY}], egress: [{action: pAsS}]}\n';
  await cli.ok(['apply', '-f', '-'], document);
  const [ingress, egress] = await cli.write((draft) => {
    const { spec } = draft.get('Profile', 'p') ?? assert.fail();
    return [spec.ingress, spec.egress];
  });
  assert.deepEqual(ingress, [{ action: 'Allow' }, { action: 'Deny' }]);
  assert.deepEqual(egress, [{ action: 'Pass' }]);
});

test('the built-in Profile that allows all traffic is shown, and cannot be changed or removed', async () => {
  using cli = startCommandLine();
  const name = 'projectcalico-default-allow';
  assert.match(await cli.ok(['get', 'profile']), new RegExp(`^${name} `, 'm'));
  const yaml = await cli.ok(['get', 'profile', name, '-o', 'yaml']);
  assert.match(yaml, /ingress:\n +- action: Allow\n +egress:\n +- action: Allow\n/);
  assert.equal(await cli.ok(['apply', '-f', '-'], yaml), `Profile ${name} unchanged\n`);
  assert.match(await cli.ok(['profile', name, 'show']), /inbound:\n +1 +allow\n/);
  for (const argv of [
    ['delete', 'profile', name],
    ['profile', 'add', name],
    ['profile', 'remove', name],
    ['profile', 'remove', name, '--no-check'],
    ['profile', name, 'tag', 'add', 'x'],
    ['profile', name, 'rule', 'add', 'inbound', 'deny'],
  ]) {
    const { status, error } = await cli.run(argv);
    assert.equal(status, 1, argv.join(' '));
    assert.match(error, /is built in and cannot be (changed|deleted)\n$/);
  }
});

test('the error of an invalid rule uses the terms of the command', async () => {
  using cli = startCommandLine();
  await cli.ok(['profile', 'add', 'web']);
  const add = ['profile', 'web', 'rule', 'add', 'inbound'];
  const { status, error } = await cli.run([...add, 'allow', 'from', 'ports', '80']);
  assert.equal(status, 1);
  assert.equal(
    error,
    'calico-cnm: Profile web: inbound rule 2: from ports: needs protocol TCP, UDP or SCTP\n',
  );
  await cli.ok([...add, 'allow', 'tcp', 'to', 'ports', 'http,8080']);
  assert.match(await cli.ok(['profile', 'web', 'show']), /allow tcp to ports http,8080/);
});
