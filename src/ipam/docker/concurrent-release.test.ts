import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GroupWriter } from '../../cache/group-writer.ts';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import { raced, type Race } from '../../cache/raced-store.fixture.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import type { Draft } from '../../datastore/writer.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { releasePool, requestPool } from './docker-pools.ts';

const signal = AbortSignal.timeout(600_000);

test('hosts that release their pools of one subnet at the same time leave no IP pool', async () => {
  await using store = await openMirroredStore();
  const { datastore } = store.mirror;
  const race: Race = { beforeCommit: undefined };
  const racing = new GroupWriter(new UncachedView(raced(datastore, race)));
  const other = new GroupWriter(new UncachedView(datastore));
  const request = (node: string) => (draft: Draft) =>
    requestPool(draft, {
      node,
      family: 4,
      subnet: parseCidr('10.50.0.0/16'),
      nonce: `nonce-${node}`,
      now: new Date(),
      stamp: (pool) => pool,
    }).poolId;
  const nodes = ['host-1', 'host-2', 'host-3'] as const;
  const ids = new Map<string, string>();
  for (const node of nodes) ids.set(node, (await other.write(request(node), signal)).result);
  const release = (node: string) => (draft: Draft) =>
    releasePool(draft, ids.get(node) ?? assert.fail(), node);
  await other.write(release('host-3'), signal);
  race.beforeCommit = () => other.write(release('host-2'), signal);
  await racing.write(release('host-1'), signal);
  const { result: pools } = await other.write((draft) => [...draft.entries('IPPool')], signal);
  assert.deepEqual(pools, []);
});
