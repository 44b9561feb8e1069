import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { datastoreContract } from './contract.fixture.ts';
import { listAll, type Datastore } from './datastore.ts';
import { MovableDatastore } from './movable-datastore.ts';
import { openSqliteStore } from './sqlite-store.ts';

const signal = AbortSignal.timeout(600_000);

const put = (store: Datastore, key: string, value: string, modRevision = 0n) =>
  store.commit({ compares: [{ key, modRevision }], writes: [{ key, value }] }, signal);

describe('a datastore whose store was exchanged is a datastore', () => {
  datastoreContract(async () => {
    const first = await openSqliteStore(':memory:');
    const store = new MovableDatastore(first);
    for (let n = 0; n < 5; n++) await put(store, `/calico/old/${n}`, 'x');
    store.use(await openSqliteStore(':memory:'));
    await first.close();
    return store;
  });
});

/** A store with ten writes, exchanged for one with two. */
async function exchanged() {
  const [first, second] = [await openSqliteStore(':memory:'), await openSqliteStore(':memory:')];
  const store = new MovableDatastore(first);
  for (let n = 0; n < 10; n++) await put(store, `/calico/${n}`, 'same');
  const before = await listAll(store, '/calico/', signal);
  const watched: string[] = [];
  const watching = (async () => {
    for await (const { changes } of store.watch('/calico/', before.revision, signal)) {
      watched.push(...changes.map(({ key }) => key));
    }
  })();
  await put(second, '/calico/0', 'same');
  await put(second, '/calico/1', 'same');
  store.use(second);
  await watching;
  return { store, first, second, before, watched };
}

test('revisions rise although those of the other store are lower', async () => {
  const { store, before } = await exchanged();
  const after = await listAll(store, '/calico/', signal);
  assert.ok(after.revision > before.revision);
  for (const { modRevision } of after.items) assert.ok(modRevision > before.revision);
  await store.close();
});

test('what was read before conflicts with the other store, even at the same revision and value', async () => {
  const { store, before } = await exchanged();
  for (const { key, modRevision } of before.items) {
    const result = await put(store, key, 'overwritten', modRevision);
    assert.equal(result.kind, 'conflict', key);
  }
  const ranged = { prefix: '/calico/', afterRevision: before.revision };
  const result = await store.commit({ compares: [], ranges: [ranged], writes: [] }, signal);
  assert.equal(result.kind, 'conflict');
  await store.close();
});

test('the watch ends, and one after an earlier revision ends at once', async () => {
  const { store, before, watched } = await exchanged();
  assert.deepEqual(watched, []);
  for await (const batch of store.watch('/calico/', before.revision, signal))
    assert.fail(`revision ${batch.revision}`);
  await store.close();
});
