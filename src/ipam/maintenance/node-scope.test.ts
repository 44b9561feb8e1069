import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inBackground } from '../../async/background.fixture.ts';
import { GroupWriter } from '../../cache/group-writer.ts';
import { nodeScope } from '../../cache/cache-scope.ts';
import { LiveMirror } from '../../cache/live-mirror.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { checkIpam, poolUsage } from './report.ts';
import { reclaim, findLeaks } from './reclaim.ts';
import { signal, withIpam } from '../ipam-lab.fixture.ts';

test('a node that has just started releases its own addresses whose handles are not in its cache', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a'))['PoolID']);
    for (let n = 0; n < 5; n++) await lab.address('host-a', poolId);
    const { datastore } = lab.mirror;
    const mirror = new LiveMirror(datastore, undefined, undefined, undefined, nodeScope('host-a'));
    await using running = inBackground((stop) => mirror.run(stop));
    await mirror.reached(lab.mirror.revision, signal);
    assert.equal(mirror.cached('Handle').size, 0);
    const writer = new GroupWriter(mirror);
    const { result: finds } = await writer.write((draft) => findLeaks(draft, 'host-a'), signal);
    const { revision } = await writer.write((draft) => reclaim(draft, 'host-a', finds), signal);
    await lab.mirror.reached(revision, signal);
    assert.equal(lab.mirror.list('Handle').size, 0);
    assert.deepEqual(checkIpam(lab.mirror), []);
    await running.stop();
  }));

test('a node that holds the blocks of others in brief counts the use of pools as one that holds them whole', () =>
  withIpam(async (lab) => {
    for (const [node, count] of [
      ['host-a', 5],
      ['host-b', 3],
    ] as const) {
      const poolId = String((await lab.pool(node))['PoolID']);
      for (let n = 0; n < count; n++) await lab.address(node, poolId);
    }
    const held = (await lab.plan((draft) => [...draft.entries('Block4')])).map(([id]) => id);
    assert.equal(held.length, 2);
    await lab.plan((draft) =>
      draft.put('IPReservation', 'later', {
        kind: 'IPReservation',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'later' },
        // A part of each block; some of its addresses are in use.
        spec: { reservedCIDRs: held.map((cidr) => parseCidr(cidr.replace(/\/\d+$/, '/30'))) },
      }),
    );
    const { datastore } = lab.mirror;
    const mirror = new LiveMirror(datastore, undefined, undefined, undefined, nodeScope('host-a'));
    await using running = inBackground((stop) => mirror.run(stop));
    await mirror.reached(lab.mirror.revision, signal);
    assert.equal(mirror.cached('Block4').size, 1);
    const usage = poolUsage(mirror);
    assert.deepEqual(usage.map(withoutOrder), poolUsage(lab.mirror).map(withoutOrder));
    assert.deepEqual(
      usage.map(({ used, reserved, free }) => [used, reserved, free]),
      [[8n, 8n, 55n]],
    );
    await running.stop();
  }));

function withoutOrder({ blocks, ...usage }: ReturnType<typeof poolUsage>[number]): object {
  return { ...usage, blocks: new Map(blocks.map((block) => [block.cidr, block])) };
}
