import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startCluster, type Cluster } from '../lab/cluster.ts';
import { oneSegment } from '../lab/fabric.ts';
import { reachability } from '../lab/reachability.ts';

describe('three hosts without Docker', { timeout: 300_000 }, () => {
  let cluster: Cluster;
  let startMs = 0;
  before(async () => {
    const started = performance.now();
    cluster = await startCluster({ topology: oneSegment(3) });
    startMs = Math.round(performance.now() - started);
  });
  after(() => cluster[Symbol.asyncDispose]());

  test('they reach each other', async (t) => {
    t.diagnostic(`started in ${startMs} ms`);
    await reachability(cluster.hosts, 'all');
  });

  test('containers on one host reach each other', async () => {
    const [first] = cluster.hosts;
    assert.ok(first);
    await cluster.network('web');
    await Promise.all(['one', 'two'].map((name) => first.run(name, { network: 'web' })));
    await reachability(first.containers, 'all');
  });
});
