import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GroupWriter } from '../../cache/group-writer.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import { listAll, type Datastore, type Transaction } from '../../datastore/datastore.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { CalicoError } from '../../errors/error.ts';
import { parseAddress } from '../../ip/address.ts';
import { defaultPool, nodes, signal } from '../../ipam/ipam-lab.fixture.ts';
import type { ClusterInformation } from '../../model/kinds/cluster-information.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { contents, copyOf, steps, withContainers } from '../containers.fixture.ts';
import { valuesOf } from '../joining/stored-items.ts';
import { isHeldBy, ownStateOf } from './own-state.ts';
import { reassert } from './reassert.ts';

const open: ClusterInformation = {
  kind: 'ClusterInformation',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'default' },
  spec: { datastoreReady: true },
};

test('after any restore, hosts put back exactly what they have, in any order', async () => {
  await fc.assert(
    fc.asyncProperty(steps, steps, fc.boolean(), async (before, since, isReversed) => {
      await withContainers(async ({ lab, live, containers }) => {
        await containers.run(before);
        const restored = await copyOf(live);
        await containers.run(since);
        const order = isReversed ? nodes.toReversed() : nodes;
        const own = order.map((node) => ownStateOf(lab.mirror, node));
        const act = { now: new Date(), releasesFormer: true, signal };
        for (const state of own) await reassert(restored, state, act);
        // A host may have found an address that another one had not released yet.
        for (const state of own) {
          assert.deepEqual((await reassert(restored, state, act)).conflicts, []);
        }
        for (const state of own) {
          assert.deepEqual(await reassert(restored, state, act), { written: 0, conflicts: [] });
        }
        const [expected, found] = [await contents(live), await contents(restored)];
        assert.deepEqual(found.allocations, expected.allocations);
        assert.deepEqual(found.endpoints, expected.endpoints);
        assert.deepEqual(found.handles, found.counts);
        await restored.close();
      });
    }),
    { numRuns: 20 },
  );
});

test('an address that the restored datastore gives to a host that is gone is a conflict, and stays with it', async () => {
  await withContainers(async ({ lab, live, containers }) => {
    await containers.start('host-a');
    const restored = await copyOf(live);
    const [address = ''] = Object.keys((await contents(live)).allocations);
    // host-a releases it, host-b gets the same address; then host-a is lost, and the backup is restored.
    await containers.remove(0);
    const own = ownStateOf(lab.mirror, 'host-b');
    const holder = {
      handle_id: 'docker.host-b.x',
      secondary: { node: 'host-b', container: 'web' },
    };
    const allocations = new Map(own.allocations).set(parseAddress(address), holder);
    const act = { now: new Date(), releasesFormer: true, signal };
    const { conflicts } = await reassert(restored, { ...own, allocations }, act);
    assert.equal(conflicts.length, 1);
    assert.match(
      conflicts[0] ?? '',
      new RegExp(`^${address} of container web on host host-b is allocated to`),
    );
  });
});

test('a locked datastore gets everything of its hosts, and keeps what is shared', async () => {
  await withContainers(async ({ lab, live, containers }) => {
    const [node] = nodes;
    // More than one step of releases.
    for (let count = 0; count < 12; count++) await containers.start(node);
    await lab.writer.write((draft) => draft.put('ClusterInformation', 'default', open), signal);
    const restored = await copyOf(live);
    for (let count = 0; count < 12; count++) await containers.remove(0);
    await containers.start(node);
    const elsewhere = new GroupWriter(new UncachedView(restored));
    const shared = { ...defaultPool, spec: { ...defaultPool.spec, disabled: true } };
    await elsewhere.write((draft) => {
      draft.put('IPPool', 'default-ipv4-ippool', shared);
      draft.put('ClusterInformation', 'default', { ...open, spec: { datastoreReady: false } });
    }, signal);
    const own = ownStateOf(lab.mirror, node);
    // Of the same handle: its attributes are the newer ones.
    const allocations = new Map(
      [...own.allocations].map(([address, { secondary, ...holder }]) => [
        address,
        { ...holder, secondary: { ...secondary, node, note: 'newer' } },
      ]),
    );
    const act = { now: new Date(), releasesFormer: true, signal };
    await reassert(restored, own, act);
    await reassert(restored, { ...own, allocations }, act);
    const found = await contents(restored);
    assert.deepEqual(found.allocations, Object.fromEntries(allocations));
    const { items } = await listAll(restored, '/calico/', signal);
    const pool = valuesOf(items, 'IPPool').get('default-ipv4-ippool');
    assert.equal(pool?.spec.disabled, true);
    await restored.close();
  });
});

test('only addresses that a host has for itself are its own', () => {
  const secondary = { node: 'host-a' };
  assert.ok(isHeldBy('host-a', { secondary }));
  assert.ok(!isHeldBy('host-b', { secondary }));
  assert.ok(!isHeldBy('host-a', { secondary: { ...secondary, holders: 'host-a,host-b' } }));
  assert.ok(!isHeldBy('host-a', { secondary: { ...secondary, swarm: 'x' } }));
});

test('endpoints that a member permits only after their network is written are put back', async () => {
  await withContainers(async ({ lab, containers }) => {
    await containers.start('host-a');
    const own = ownStateOf(lab.mirror, 'host-a');
    for (const isPermitted of [true, false]) {
      const store = await openSqliteStore(':memory:');
      await new GroupWriter(new UncachedView(store)).write((draft) => {
        draft.put('ClusterInformation', 'default', open);
      }, signal);
      let attempts = 0;
      const denying: Datastore = new Proxy(store, {
        get: (target, name): unknown => {
          const value: unknown = Reflect.get(target, name, target);
          if (name !== 'commit') return typeof value === 'function' ? value.bind(target) : value;
          return async (transaction: Transaction, stop: AbortSignal) => {
            const isDenied = transaction.writes.some(({ key }) =>
              key.startsWith(entryTypeOf.WorkloadEndpoint.prefix),
            );
            if (isDenied && (attempts++ < 8 || !isPermitted)) {
              throw new CalicoError('datastore/denied', { endpoint: 'x', what: 'y', remedy: 'z' });
            }
            return store.commit(transaction, stop);
          };
        },
      });
      const act = {
        now: new Date(),
        releasesFormer: false,
        signal,
        namespaceMs: isPermitted ? 60_000 : 300,
      };
      const { conflicts } = await reassert(denying, own, act);
      assert.equal(conflicts.length, isPermitted ? 0 : 1, conflicts.join());
      const { endpoints, allocations } = await contents(store);
      assert.equal(endpoints.length, isPermitted ? 1 : 0);
      assert.equal(Object.keys(allocations).length, 1, 'its address is allocated in any case');
      await store.close();
    }
  });
});
