import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Datastore } from '../../datastore/datastore.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { entryTypes } from '../../model/kinds/index.ts';
import { defaultPool, signal, withIpam } from '../ipam-lab.fixture.ts';
import { allocatedAddresses } from '../records/block.ts';

/** A pool that a tool on another host deletes while an address of it is being allocated. */

const cases = [
  { what: 'any address', wanted: undefined },
  { what: 'a certain address', wanted: '10.65.0.9' },
];

for (const { what, wanted } of cases) {
  test(`${what} of a pool that is deleted concurrently is not allocated`, async () => {
    let deletes = false;
    const deleting = (store: Datastore): Datastore => ({
      endpoint: store.endpoint,
      read: (...request) => store.read(...request),
      pages: (...request) => store.pages(...request),
      watch: (...request) => store.watch(...request),
      close: () => store.close(),
      commit: async (...request) => {
        if (deletes) {
          deletes = false;
          const key = entryTypes.IPPool.key(defaultPool.metadata.name);
          await store.commit({ compares: [], writes: [{ key, value: undefined }] }, signal);
        }
        return store.commit(...request);
      },
    });
    await withIpam(async (lab) => {
      const poolId = String((await lab.pool('host-a'))['PoolID']);
      // The block already exists: only the pool's own key shows that it was deleted.
      await lab.address('host-a', poolId, '10.65.0.8');
      deletes = true;
      await assert.rejects(lab.address('host-a', poolId, wanted), /pool/);
      assert.equal(deletes, false);
      const allocation = [...lab.mirror.list('Block4').values()].flatMap(({ value }) => [
        ...allocatedAddresses(value),
      ]);
      assert.deepEqual(
        allocation.map(([address]) => address),
        ['10.65.0.8'],
      );
    }, deleting);
  });
}

/** A pool over 10.8.0.0/15 that a network of host-a created, and one of another tool inside it, used by host-b. */
const foreignPools = [
  { what: 'whose own pool another tool deleted', cidr: '10.9.0.0/24', deletes: true },
  { what: 'in a block larger than its own pool', cidr: '10.9.0.0/28', deletes: false },
];

for (const { what, cidr, deletes } of foreignPools) {
  test(`an address ${what} stays allocated when the last network of the pool around it is removed`, () =>
    withIpam(async (lab) => {
      const around = await lab.pool('host-a', '10.8.0.0/15');
      const subnet = parseCidr(cidr);
      const foreign: IpPool = {
        ...defaultPool,
        metadata: { name: 'a-foreign' },
        spec: { cidr: subnet, blockSize: 28 },
      };
      // A block of the pool around, so that the other host's address is in it.
      if (!deletes) await lab.address('host-a', String(around['PoolID']), '10.9.0.3');
      await lab.plan((draft) => draft.put('IPPool', 'a-foreign', foreign));
      const inner = await lab.pool('host-b', cidr);
      const address = await lab.address('host-b', String(inner['PoolID']), '10.9.0.9');
      if (deletes) await lab.plan((draft) => draft.remove('IPPool', 'a-foreign'));
      else await lab.release('host-a', String(around['PoolID']), '10.9.0.3');

      await lab.releasePool('host-a', String(around['PoolID']));
      assert.equal((await lab.holder(address))?.secondary?.['node'], 'host-b');
      assert.notEqual(lab.mirror.get('IPPool', 'subnet-10-8-0-0-15'), undefined);

      // The pool goes with the last network that uses an address of it.
      await lab.release('host-b', String(inner['PoolID']), address);
      await lab.releasePool('host-b', String(inner['PoolID']));
      assert.equal(lab.mirror.get('IPPool', 'subnet-10-8-0-0-15'), undefined);
    }));
}
