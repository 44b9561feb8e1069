import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CalicoError, isCalicoError } from '../errors/error.ts';
import type { CommitResult, Datastore, Transaction } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import type { Draft } from '../datastore/writer.ts';
import { entryTypeOf } from '../model/kinds/index.ts';
import { GroupWriter } from './group-writer.ts';
import { UncachedView } from './uncached-view.ts';

/** A datastore that denies whole transactions, as etcd does with a node that lacks one of the permissions. */

const signal = AbortSignal.timeout(600_000);

/** Denies what writes a handle whose name begins with `denied`, and keeps the sizes of all transactions. */
function denying(store: Datastore, sizes: number[]): Datastore {
  const commit = async (transaction: Transaction, stop: AbortSignal): Promise<CommitResult> => {
    const keys = transaction.writes.map(({ key }) => key);
    sizes.push(keys.length);
    const denied = keys.filter((key) => key.startsWith(entryTypeOf.Handle.key('denied')));
    if (denied.length === 0) return store.commit(transaction, stop);
    const what = denied.join();
    throw new CalicoError('datastore/denied', { endpoint: 'test', what, remedy: 'none' });
  };
  return new Proxy(store, {
    get: (target, name): unknown => {
      if (name === 'commit') return commit;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const put = (name: string) => (draft: Draft) => {
  draft.put('Handle', name, { block: { '10.0.0.0/26': 1 } });
  return name;
};

/** Writes all names at once; returns which were denied, which are stored, and the sizes of the transactions. */
async function writeAll(names: readonly string[]) {
  const store = await openSqliteStore(':memory:');
  try {
    const sizes: number[] = [];
    const writer = new GroupWriter(new UncachedView(denying(store, sizes)));
    const outcomes = await Promise.allSettled(names.map((name) => writer.write(put(name), signal)));
    const denied = outcomes.flatMap((outcome, index) => {
      if (outcome.status === 'fulfilled') {
        assert.equal(outcome.value.result, names[index]);
        return [];
      }
      assert.ok(isCalicoError(outcome.reason, 'datastore/denied'), String(outcome.reason));
      return [names[index] ?? ''];
    });
    const { items } = await store.read(names.map(entryTypeOf.Handle.key), signal);
    const stored = items.flatMap(({ key }) => entryTypeOf.Handle.idOf(key) ?? []);
    return { denied, stored, sizes };
  } finally {
    await store.close();
  }
}

test('a plan whose transaction is denied fails alone: those of the same group are written', async () => {
  const { denied, stored, sizes } = await writeAll(['a', 'b', 'denied-1', 'c']);
  assert.deepEqual(denied, ['denied-1']);
  assert.deepEqual(stored.toSorted(), ['a', 'b', 'c']);
  assert.deepEqual(sizes, [4, 1, 1, 1, 1], 'one for all, and then one for each');
});

test('a single plan that is denied is not tried again', async () => {
  assert.deepEqual(await writeAll(['denied-1']), { denied: ['denied-1'], stored: [], sizes: [1] });
});

test('whichever plans of a group are denied, exactly the others are written', async () => {
  const names = fc.uniqueArray(fc.stringMatching(/^(denied-)?[a-z]$/), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(names, async (all) => {
      const { denied, stored } = await writeAll(all);
      const [refused, written] = [true, false].map((isDenied) =>
        all.filter((name) => name.startsWith('denied') === isDenied),
      );
      assert.deepEqual(denied, refused);
      assert.deepEqual(stored.toSorted(), written?.toSorted());
    }),
    { numRuns: 50 },
  );
});
