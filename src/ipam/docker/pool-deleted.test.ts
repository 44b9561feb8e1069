import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Datastore } from '../../datastore/datastore.ts';
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
