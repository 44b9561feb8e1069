import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GroupWriter } from '../../cache/group-writer.ts';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import { raced, type Race } from '../../cache/raced-store.fixture.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import type { Draft } from '../../datastore/writer.ts';
import { plainNetwork } from '../endpoints/endpoint.fixture.ts';
import { dropNetworkProfiles, ensureNetworkProfiles } from './network-profiles.ts';

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
