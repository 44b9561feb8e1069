import assert from 'node:assert/strict';
import { test } from 'node:test';
import { profilePolicy } from '../../ruleset/policy.ts';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import { badNetworks, networkSetMember, networkSetType } from '../../model/kinds/network-set.ts';
import { describeOther, otherKind } from '../../model/kinds/other-resource.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { compileRule } from '../compile/compiled-rule.ts';
import { noWork } from '../work-count.ts';
import { SelectorSets } from './selector-sets.ts';

function setOf(namespace: string, nets: readonly string[]) {
  return networkSetType.schema.parse({
    kind: 'NetworkSet',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'bad', namespace, labels: { set: 'bad' } },
    spec: { nets },
  });
}

test('networks of a set are read as Calico reads them', () => {
  const set = setOf('shop', ['10.1.2.3/16', '10.1.0.0/16', '192.0.2.7', '2001:DB8::1/32', 'no']);
  assert.deepEqual(networkSetMember(set), {
    nets: ['10.1.0.0/16', '192.0.2.7/32', '2001:db8::/32'],
    labels: { set: 'bad', 'projectcalico.org/namespace': 'shop' },
    profiles: ['kns.shop'],
  });
  assert.deepEqual(badNetworks(set), ['no']);
});

test('a network is a member as long as one of its sets lists it, and holds its addresses', () => {
  const members = new Set<string>();
  const nothing = () => undefined;
  const sets = new SelectorSets(
    [4, 6],
    {
      addSet: nothing,
      removeSet: nothing,
      addMember: (_, member) => members.add(member),
      removeMember: (_, member) => members.delete(member),
    },
    noWork(),
  );
  const selector = parseSelector("set == 'bad' && has(projectcalico.org/namespace)");
  const id = sets.use({ id: 's:bad', selector, withDomains: false });
  const put = (name: string, nets: readonly string[]) =>
    sets.setMember(name, networkSetMember(setOf('shop', nets)));
  put('one', ['10.1.0.0/16', '10.1.2.0/24', '::/0']);
  put('two', ['10.1.2.0/24', '10.1.2.0/24']);
  assert.deepEqual([...members], ['10.1.0.0/16', '10.1.2.0/24', '::/0']);
  put('one', ['::/0']);
  assert.deepEqual([...members], ['10.1.2.0/24', '::/0']);
  const holds = (net: string) => sets.contains(id, parseNet(net));
  assert.deepEqual(['10.1.2.9', '10.1.3.9', 'fd00::1'].map(holds), [true, false, true]);
  sets.removeMember('two');
  assert.deepEqual([...members], ['::/0']);
  assert.equal(sets.contains(id, parseCidr('10.1.2.0/24')), false);
});

test('a criterion that is not known makes no rule of more than was meant', () => {
  const name = { policy: profilePolicy('p'), direction: 'ingress', index: 1 } as const;
  const compile = (source: Readonly<Record<string, unknown>>) =>
    compileRule({ action: 'Allow', source }, name);
  compile({ nets: [parseCidr('10.0.0.0/8')] });
  assert.throws(() => compile({ domains: ['x'] }), /^Error: source\.domains is no field/);
});

test('kinds without effect here are known by their keys and by what people call them', () => {
  assert.deepEqual(describeOther('stagedkubernetesnetworkpolicies/shop/deny'), {
    kind: 'StagedKubernetesNetworkPolicy',
    name: 'shop/deny',
  });
  assert.deepEqual(describeOther('newkinds/a'), { kind: 'newkinds', name: 'a' });
  assert.deepEqual(['IPAMConfiguration', 'kubecontrollersconfigurations', 'pod'].map(otherKind), [
    'IPAMConfiguration',
    'KubeControllersConfiguration',
    undefined,
  ]);
});
