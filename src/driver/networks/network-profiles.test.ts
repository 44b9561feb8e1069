import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GroupWriter } from '../../cache/group-writer.ts';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import { raced, type Race } from '../../cache/raced-store.fixture.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import type { Draft } from '../../datastore/writer.ts';
import { plainNetwork } from '../endpoints/endpoint.fixture.ts';
import { dropNetworkProfiles, ensureNetworkProfiles } from './network-profiles.ts';
import { profileUsers } from './profile-users.ts';

const signal = AbortSignal.timeout(600_000);

test('hosts that remove networks of one name at the same time leave no Profile', async () => {
  await using store = await openMirroredStore();
  const { datastore } = store.mirror;
  const race: Race = { beforeCommit: undefined };
  const racing = new GroupWriter(new UncachedView(raced(datastore, race)));
  const other = new GroupWriter(new UncachedView(datastore));
  const network = (node: string) => ({ ...plainNetwork(node, 'n1'), name: 'web' });
  await other.write((draft) => {
    for (const node of ['host-1', 'host-2']) {
      draft.put('DockerNetwork', `${node}/n1`, network(node));
      ensureNetworkProfiles(draft, network(node), (made) => made);
    }
  }, signal);
  const remove = (node: string) => (draft: Draft) => {
    draft.remove('DockerNetwork', `${node}/n1`);
    dropNetworkProfiles(draft, network(node));
  };
  race.beforeCommit = () => other.write(remove('host-2'), signal);
  await racing.write(remove('host-1'), signal);
  const { result } = await other.write((draft) => draft.get('Profile', 'web'), signal);
  assert.equal(result, undefined);
});

test('the Profile of a namespace has its name as a label and no rules; it lasts as long as a network or its labels', async () => {
  await using store = await openMirroredStore();
  const write = <Result>(plan: (draft: Draft) => Result) =>
    store.writer.write(plan, signal).then(({ result }) => result);
  const network = (id: string) => ({
    ...plainNetwork('host-1', id),
    options: { namespace: 'shop' },
  });
  const add = (id: string) => (draft: Draft) => {
    draft.put('DockerNetwork', `host-1/${id}`, network(id));
    ensureNetworkProfiles(draft, network(id), (made) => made);
  };
  const remove = (id: string) => (draft: Draft) => {
    draft.remove('DockerNetwork', `host-1/${id}`);
    dropNetworkProfiles(draft, network(id));
  };
  const stored = () => store.mirror.get('Profile', 'kns.shop')?.value;
  await write(add('n1'));
  await write(add('n2'));
  const made = stored() ?? assert.fail();
  assert.deepEqual(made.spec, { labelsToApply: { 'pcns.projectcalico.org/name': 'shop' } });
  await write(remove('n1'));
  assert.ok(stored() !== undefined, 'the other network uses it');
  assert.match((await write((draft) => profileUsers(draft, 'kns.shop'))).join(), /n2 of host-1/);
  await write(remove('n2'));
  assert.equal(stored(), undefined);
  await write(add('n1'));
  const labelsToApply = { ...made.spec.labelsToApply, 'pcns.team': 'a' };
  await write((draft) => draft.put('Profile', 'kns.shop', { ...made, spec: { labelsToApply } }));
  await write(remove('n1'));
  await write(add('n2'));
  assert.deepEqual(stored()?.spec, { labelsToApply }, 'labels of a user stay');
});
