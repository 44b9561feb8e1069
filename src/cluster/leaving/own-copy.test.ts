import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { nodeScope } from '../../cache/cache-scope.ts';
import { followed } from '../../cache/mirrored-store.fixture.ts';
import { bootstrap } from '../../datastore/bootstrap.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { belongingsOf } from '../../host/delete-node.ts';
import { nodes, signal } from '../../ipam/ipam-lab.fixture.ts';
import { checkIpam } from '../../ipam/maintenance/report.ts';
import { createStamp } from '../../model/stamp.ts';
import { contents, copyOf, steps, withContainers } from '../containers.fixture.ts';
import { isHeldBy, ownStateOf } from '../restoring/own-state.ts';
import { writeOwnCopy } from './own-copy.ts';

const now = () => new Date();
const stamp = createStamp({ now, uuid: randomUUID });

test('the datastore of its own has all of a host, nothing of others, and is consistent', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'own-copy-'));
  const file = join(folder, 'calico.db.own');
  try {
    await fc.assert(
      fc.asyncProperty(steps, fc.constantFrom(...nodes), async (all, node) => {
        await withContainers(async ({ lab, live, containers }) => {
          await containers.run(all);
          await lab.writer.write((draft) => bootstrap(draft, { nodeName: node, stamp }), signal);
          const expected = await contents(live);
          const own = ownStateOf(lab.mirror, node);
          // As the daemon of the node knows it.
          await using known = await followed(await copyOf(live), undefined, nodeScope(node));
          writeFileSync(file, 'what an interrupted attempt has left');
          const copy = await writeOwnCopy(known.mirror, { node, file, stamp, now }, signal);
          const other = nodes.filter((one) => one !== node);
          assert.deepEqual(copy.otherNodes, other);
          assert.equal(copy.networks, 1);
          const store = await openSqliteStore(file);
          const found = await contents(store);
          assert.deepEqual(found.allocations, Object.fromEntries(own.allocations));
          assert.deepEqual(found.handles, found.counts);
          assert.equal(found.endpoints.length, copy.containers);
          assert.equal(copy.containers + copy.otherContainers, expected.endpoints.length);
          await using followedCopy = await followed(store);
          const { mirror } = followedCopy;
          const problems = new Set(checkIpam(lab.mirror));
          assert.deepEqual(
            checkIpam(mirror).filter((one) => !problems.has(one)),
            [],
          );
          for (const one of other) {
            const left = belongingsOf(mirror, one).flatMap(([, items]) => items);
            assert.deepEqual(left, []);
          }
          assert.deepEqual([...mirror.list('Node').keys()], [node]);
          assert.deepEqual(
            [...mirror.list('IPPool').keys()],
            [...lab.mirror.list('IPPool').keys()],
          );
          const guid = (one: typeof mirror) =>
            one.get('ClusterInformation', 'default')?.value.spec.clusterGUID;
          assert.match(guid(mirror) ?? '', /^[0-9a-f]{32}$/);
          assert.notEqual(guid(mirror), guid(lab.mirror));
          const held = Object.values(found.allocations);
          assert.equal(held.length, own.allocations.size);
          assert.ok([...own.allocations.values()].every((holder) => isHeldBy(node, holder)));
        });
      }),
      { numRuns: 15 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
