import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GroupWriter } from '../../cache/group-writer.ts';
import { heldByNode } from '../../cache/holding.ts';
import { LiveMirror } from '../../cache/live-mirror.ts';
import { checkIpam } from './report.ts';
import { reclaim, findLeaks } from './reclaim.ts';
import { signal, withIpam } from '../ipam-lab.fixture.ts';

test('a node that has just started releases its own addresses whose handles are not in its cache', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a'))['PoolID']);
    for (let n = 0; n < 5; n++) await lab.address('host-a', poolId);
    const { datastore } = lab.mirror;
    const stop = new AbortController();
    const mirror = new LiveMirror(datastore, undefined, undefined, undefined, heldByNode('host-a'));
    const running = mirror.run(stop.signal);
    await mirror.reached(lab.mirror.revision, signal);
    assert.equal(mirror.held('Handle').size, 0);
    const writer = new GroupWriter(mirror);
    const { result: finds } = await writer.write((draft) => findLeaks(draft, 'host-a'), signal);
    const { revision } = await writer.write((draft) => reclaim(draft, 'host-a', finds), signal);
    await lab.mirror.reached(revision, signal);
    assert.equal(lab.mirror.list('Handle').size, 0);
    assert.deepEqual(checkIpam(lab.mirror), []);
    stop.abort();
    await running;
  }));
