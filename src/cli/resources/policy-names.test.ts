import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GlobalNetworkPolicy } from '../../model/kinds/global-network-policy.ts';
import { startCommandLine } from '../command-line.fixture.ts';

/** Releases of Calico before v3.32 store a policy `foo` as `default.foo`. */

function stored(name: string, annotations?: Readonly<Record<string, string>>): GlobalNetworkPolicy {
  return {
    kind: 'GlobalNetworkPolicy',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, uid: 'u', ...(annotations === undefined ? {} : { annotations }) },
    spec: { order: 1, selector: 'all()', types: ['Ingress'] },
  };
}

const named = (name: string) => ({ 'projectcalico.org/metadata': JSON.stringify({ name }) });
const document = (name: string, order: number) =>
  `apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: ${name}}\nspec: {order: ${order}, selector: all()}\n`;
const tier = (name: string, spec: string) =>
  `apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: ${name}}\nspec: ${spec}\n`;
const names = (table: string) =>
  table
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(' ')[0]);

for (const [release, policy] of [
  ['v3.28', stored('default.web')],
  ['v3.31', stored('default.web', named('web'))],
  ['v3.32', stored('web', named('web'))],
] as const) {
  test(`a policy stored by ${release} is shown, changed and deleted by the name its user chose`, async () => {
    using cli = startCommandLine();
    const id = policy.metadata.name;
    await cli.write((draft) => draft.put('GlobalNetworkPolicy', id, policy));
    assert.deepEqual(names(await cli.ok(['get', 'gnp', 'web'])), ['web']);
    const yaml = await cli.ok(['get', 'gnp', '-o', 'yaml']);
    assert.match(yaml, /^ +name: web$/m);
    assert.doesNotMatch(yaml, /annotations/);
    assert.match(
      await cli.ok(['apply', '-f', '-'], document('web', 2)),
      /^GlobalNetworkPolicy web changed\n/,
    );
    assert.match(await cli.ok(['apply', '-f', '-'], document('web', 2)), / web unchanged\n/);
    const entries = await cli.write((draft) => [...draft.entries('GlobalNetworkPolicy')]);
    assert.deepEqual(
      entries.map(([at, { metadata, spec }]) => [at, metadata.name, metadata.uid, spec.order]),
      [[id, id, 'u', 2]],
    );
    const { status, error } = await cli.run(['apply', '-f', '-'], yaml);
    assert.equal(status, 1, 'it has changed since it was read');
    assert.match(error, /^calico-cnm: GlobalNetworkPolicy web was modified since/);
    assert.equal(await cli.ok(['delete', 'gnp', 'web']), 'GlobalNetworkPolicy web deleted\n');
    assert.deepEqual(names(await cli.ok(['get', 'gnp'])), []);
  });
}

test('policies whose names differ only by the prefix are distinct; a policy stored twice is deleted in one step', async () => {
  using cli = startCommandLine();
  await cli.write((draft) => {
    draft.put('GlobalNetworkPolicy', 'web', stored('web', named('web')));
    draft.put('GlobalNetworkPolicy', 'default.web', stored('default.web', named('default.web')));
  });
  assert.deepEqual(names(await cli.ok(['get', 'gnp'])), ['default.web', 'web']);
  assert.deepEqual(names(await cli.ok(['get', 'gnp', 'web'])), ['web']);
  await cli.ok(['delete', 'gnp', 'web']);
  for (const command of ['get', 'delete']) {
    const { error } = await cli.run([command, 'gnp', 'web']);
    assert.equal(error, 'calico-cnm: GlobalNetworkPolicy web does not exist\n');
  }
  assert.deepEqual(names(await cli.ok(['get', 'gnp'])), ['default.web']);
  await cli.write((draft) => {
    draft.put('GlobalNetworkPolicy', 'web', stored('web'));
    draft.put('GlobalNetworkPolicy', 'default.web', stored('default.web'));
  });
  assert.deepEqual(names(await cli.ok(['get', 'gnp'])), ['web', 'web']);
  assert.equal(await cli.ok(['delete', 'gnp', 'web']), 'GlobalNetworkPolicy web deleted\n');
  assert.deepEqual(names(await cli.ok(['get', 'gnp'])), []);
});

test('a name in several namespaces is shown for each, and deleted only with its namespace', async () => {
  using cli = startCommandLine();
  for (const namespace of ['default', 'shop']) {
    await cli.ok(
      ['apply', '-f', '-'],
      `apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: ${namespace}}\nspec: {}\n`,
    );
  }
  assert.deepEqual(
    new Set(names(await cli.ok(['get', 'np', 'web']))),
    new Set(['default', 'shop']),
  );
  const { status, error } = await cli.run(['delete', 'np', 'web']);
  assert.equal(status, 1);
  assert.equal(
    error,
    'calico-cnm: NetworkPolicy web: ambiguous; use one of default/web, shop/web\n',
  );
  assert.deepEqual(names(await cli.ok(['get', 'np', 'shop/web'])), ['shop']);
  assert.equal(await cli.ok(['delete', 'np', 'shop/web']), 'NetworkPolicy shop/web deleted\n');
  assert.equal(await cli.ok(['delete', 'np', 'web']), 'NetworkPolicy default/web deleted\n');
});

test('-n restricts get and delete to a namespace, and apply puts resources without one into it', async () => {
  using cli = startCommandLine();
  const web = (metadata: string) =>
    `apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {${metadata}}\nspec: {}\n`;
  const apply = (text: string, ...argv: readonly string[]) =>
    cli.ok(['apply', '-f', '-', ...argv], text);
  await apply(web('name: web'));
  assert.match(await apply(web('name: web'), '-n', 'shop'), /^NetworkPolicy shop\/web created\n/);
  assert.match(
    await apply(web('name: own, namespace: given'), '--namespace', 'shop'),
    /^NetworkPolicy given\/own created\n/,
  );
  const listed = async (...argv: readonly string[]) =>
    new Set(names(await cli.ok(['get', 'np', ...argv])));
  for (const all of [[], ['-A'], ['--all-namespaces']]) {
    assert.deepEqual(await listed(...all), new Set(['default', 'given', 'shop']));
  }
  assert.deepEqual(await listed('-n', 'shop'), new Set(['shop']));
  assert.deepEqual(await listed('web', '-n', 'shop'), new Set(['shop']));
  assert.equal((await cli.run(['get', 'np', '-A', '-n', 'shop'])).status, 2);
  for (const command of ['get', 'delete']) {
    const { status, error } = await cli.run([command, 'np', 'default/web', '-n', 'shop']);
    assert.deepEqual(
      [status, error],
      [1, 'calico-cnm: NetworkPolicy shop/default/web does not exist\n'],
    );
  }
  assert.equal(
    await cli.ok(['delete', 'np', 'web', '-n', 'shop']),
    'NetworkPolicy shop/web deleted\n',
  );
  assert.match(await cli.ok(['get', 'tier', '-n', 'shop']), /^NAME/, 'not namespaced');
});

test('tiers are listed by order; a tier with policies and a built-in tier cannot be deleted', async () => {
  using cli = startCommandLine();
  const documents = [
    tier('default', '{}'),
    tier('last', '{order: 2000000, defaultAction: Pass}'),
    tier('first', '{order: 1.5}'),
    tier('kube-admin', '{order: 1000, defaultAction: Pass}'),
  ];
  await cli.ok(['apply', '-f', '-'], documents.join('---\n'));
  assert.deepEqual(names(await cli.ok(['get', 'tier'])), [
    'first',
    'kube-admin',
    'default',
    'last',
  ]);
  const inTier = document('first.web', 1).replace('spec: {', 'spec: {tier: first, ');
  const early = await cli.run(['apply', '-f', '-'], inTier.replace('tier: first', 'tier: none'));
  assert.match(early.error, /spec\.tier: Tier none does not exist/);
  await cli.ok(['apply', '-f', '-'], inTier);
  const { status, error } = await cli.run(['delete', 'tier', 'first']);
  assert.equal(status, 1);
  assert.equal(
    error,
    'calico-cnm: Tier first: has policies, such as GlobalNetworkPolicy first.web; delete these first\n',
  );
  await cli.ok(['delete', 'gnp', 'first.web']);
  assert.equal(
    await cli.ok(['delete', 'tier', 'first', 'last']),
    'Tier first deleted\nTier last deleted\n',
  );
  for (const name of ['default', 'kube-admin']) {
    const kept = await cli.run(['delete', 'tier', name]);
    assert.equal(kept.status, 1);
    assert.match(kept.error, /is built in and cannot be deleted/);
  }
});
