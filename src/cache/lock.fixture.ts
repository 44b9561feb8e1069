import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entryTypeOf } from '../model/kinds/index.ts';
import { bootstrap } from '../datastore/bootstrap.ts';
import { listAll, type Datastore } from '../datastore/datastore.ts';
import { GroupWriter } from './group-writer.ts';
import type { LiveMirror } from './live-mirror.ts';
import { setLocked } from './lock.ts';
import { followed } from './mirrored-store.fixture.ts';
import type { Draft } from '../datastore/writer.ts';

/** Tests of the datastore lock for every type of datastore; `open` creates an empty one. */
export function lockContract(open: () => Promise<Datastore>): void {
  const signal = AbortSignal.timeout(600_000);
  const key = entryTypeOf.ClusterInformation.key('default');
  const put = (id: string) => (draft: Draft) => draft.put('Handle', id, {});
  const start = (draft: Draft) => bootstrap(draft, { nodeName: 'a', stamp: (one) => one });

  async function withTwo(
    use: (one: GroupWriter, other: GroupWriter, mirrors: readonly LiveMirror[]) => Promise<void>,
  ): Promise<void> {
    const store = await open();
    await using one = await followed(store);
    await using other = await followed(store);
    await use(new GroupWriter(one.mirror), new GroupWriter(other.mirror), [
      one.mirror,
      other.mirror,
    ]);
  }

  test('a locked datastore accepts only the write that unlocks it; reads still work', () =>
    withTwo(async (one, other, [mirror = assert.fail()]) => {
      await other.write(put('before'), signal);
      await one.write(start, signal);
      assert.equal((await one.write((draft) => setLocked(draft, true), signal)).result, true);
      assert.equal((await one.write((draft) => setLocked(draft, true), signal)).result, false);
      const transactions = one.transactions;
      const results = await Promise.allSettled([
        one.write(put('a'), signal),
        one.write((draft) => draft.get('Handle', 'before'), signal),
        other.write(put('b'), signal),
        one.write((draft) => draft.remove('Handle', 'before'), signal),
      ]);
      assert.deepEqual(
        results.map(({ status }) => status),
        ['rejected', 'fulfilled', 'rejected', 'rejected'],
      );
      for (const result of results) {
        if (result.status === 'rejected')
          assert.match(String(result.reason), / is locked .*unlock/);
      }
      assert.equal(one.transactions, transactions, 'the transaction is not sent to the datastore');
      assert.deepEqual([...mirror.list('Handle').keys()], ['before']);
      const { revision } = await other.write((draft) => setLocked(draft, false), signal);
      await mirror.reached(revision, signal);
      await one.write(put('after'), signal);
      assert.equal(mirror.list('Handle').size, 2);
    }));

  test('with concurrent writers, nothing is written at or after the revision of the lock', () =>
    withTwo(async (one, other, [mirror = assert.fail()]) => {
      await one.write(start, signal);
      for (let round = 0; round < 20; round++) {
        const [locked, ...written] = await Promise.allSettled([
          one.write((draft) => setLocked(draft, true), signal),
          other.write(put(`x${round}`), signal),
          other.write(put(`y${round}`), signal),
        ]);
        const since = locked.status === 'fulfilled' ? locked.value.revision : assert.fail();
        for (const result of written) {
          if (result.status === 'fulfilled') assert.ok(result.value.revision < since);
          else assert.match(String(result.reason), / is locked /);
        }
        const { items } = await listAll(mirror.datastore, '/calico/', signal);
        assert.ok(items.every(({ modRevision }) => modRevision <= since));
        await one.write((draft) => setLocked(draft, false), signal);
      }
    }));

  test('a datastore without a lock, or with an unreadable one, is not locked', () =>
    withTwo(async (one, other, [mirror = assert.fail()]) => {
      await one.write(put('new'), signal);
      const write = { key, value: '{"spec": {"datastoreReady": "perhaps"}}' };
      const { revision } = await mirror.datastore.commit({ compares: [], writes: [write] }, signal);
      await mirror.reached(revision, signal);
      await one.write(put('odd'), signal);
      await other.write(put('odder'), signal);
      assert.ok(mirror.unreadableValues().has(key));
    }));
}
