import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { listAll, type Datastore, type KeyValue } from './datastore.ts';

/** The tests that every store must pass; `open` makes a fresh, empty one. */
export function datastoreContract(open: () => Promise<Datastore>): void {
  const signal = AbortSignal.timeout(600_000);

  async function withStore(use: (store: Datastore) => Promise<void>): Promise<void> {
    const store = await open();
    try {
      await use(store);
    } finally {
      await store.close();
    }
  }

  const put = (store: Datastore, key: string, value: string, modRevision = 0n) =>
    store.commit({ compares: [{ key, modRevision }], writes: [{ key, value }] }, signal);

  test('committed keys can be read, listed in key order, and removed', () =>
    withStore(async (store) => {
      await put(store, '/calico/b', 'two');
      const { revision } = await put(store, '/calico/a', 'one');
      await put(store, '/other', 'x');
      assert.deepEqual((await store.read(['/calico/a'], signal)).items[0], {
        key: '/calico/a',
        value: 'one',
        modRevision: revision,
      });
      const listed = await listAll(store, '/calico/', signal);
      assert.deepEqual(
        listed.items.map(({ key, value }) => [key, value]),
        [
          ['/calico/a', 'one'],
          ['/calico/b', 'two'],
        ],
      );
      const removal = { key: '/calico/a', value: undefined };
      await store.commit(
        { compares: [{ key: '/calico/a', modRevision: revision }], writes: [removal] },
        signal,
      );
      assert.equal((await store.read(['/calico/a'], signal)).items[0], undefined);
    }));

  test('a listing without inner prefixes contains everything else, at one revision', () =>
    withStore(async (store) => {
      for (const key of ['/calico/a', '/calico/b/1', '/calico/b/2', '/calico/c', '/calico/d/1']) {
        await put(store, key, 'x');
      }
      const listed: string[] = [];
      const revisions = new Set<bigint>();
      for await (const page of store.pages('/calico/', signal, ['/calico/b/'])) {
        revisions.add(page.revision);
        for (const { key } of page.items) if (!key.startsWith('/calico/b/')) listed.push(key);
      }
      assert.deepEqual(listed, ['/calico/a', '/calico/c', '/calico/d/1']);
      assert.equal(revisions.size, 1);
    }));

  test('many keys are read together, at one revision; absent ones are not among the items', () =>
    withStore(async (store) => {
      const keys = Array.from({ length: 300 }, (_, n) => `/calico/${n}`);
      const there = keys.filter((_, n) => n % 3 === 0);
      for (const key of there) await put(store, key, 'x');
      const { revision, items } = await store.read([...keys, '/calico/none'], signal);
      assert.deepEqual(
        items.map(({ key }) => key),
        there,
      );
      assert.equal(revision, items.at(-1)?.modRevision);
      assert.deepEqual((await store.read(['/calico/none'], signal)).items, []);
    }));

  test('a transaction whose comparison fails writes nothing and returns the present values', () =>
    withStore(async (store) => {
      await put(store, '/calico/a', 'one');
      const result = await store.commit(
        {
          compares: [{ key: '/calico/a', modRevision: 0n }],
          writes: [
            { key: '/calico/a', value: 'mine' },
            { key: '/calico/b', value: 'mine' },
          ],
        },
        signal,
      );
      assert.equal(result.kind, 'conflict');
      assert.equal(
        result.kind === 'conflict' ? result.current.get('/calico/a')?.value : undefined,
        'one',
      );
      assert.equal((await store.read(['/calico/b'], signal)).items[0], undefined);
    }));

  test('exactly one of many writers that compare with the same revision succeeds', () =>
    withStore(async (store) => {
      const results = await Promise.all(
        Array.from({ length: 30 }, (_, index) => put(store, '/calico/a', String(index))),
      );
      assert.equal(results.filter(({ kind }) => kind === 'committed').length, 1);
    }));

  const ranged = (store: Datastore, prefix: string, afterRevision: bigint) =>
    store.commit(
      {
        compares: [],
        ranges: [{ prefix, afterRevision }],
        writes: [{ key: '/calico/outcome', value: 'written' }],
      },
      signal,
    );

  test('a range comparison holds until a key of it is created or changed; removals and other keys do not count', () =>
    withStore(async (store) => {
      await put(store, '/calico/pools/a', 'one');
      const { revision: last } = await put(store, '/calico/pools/b', 'one');
      await put(store, '/calico/poolsandmore', 'other');
      await put(store, '/calico/pool', 'other');
      assert.equal((await ranged(store, '/calico/pools/', last)).kind, 'committed');
      assert.equal((await ranged(store, '/calico/empty/', 0n)).kind, 'committed');
      const { revision: made } = await put(store, '/calico/pools/c', 'new');
      const conflict = await ranged(store, '/calico/pools/', last);
      assert.equal(conflict.kind, 'conflict');
      assert.equal(conflict.kind === 'conflict' ? conflict.newestInRanges : undefined, made);
      assert.equal((await ranged(store, '/calico/pools/', made)).kind, 'committed');
      const { revision: changed } = await put(store, '/calico/pools/a', 'two', last - 1n);
      assert.ok(changed > made);
      assert.equal((await ranged(store, '/calico/pools/', made)).kind, 'conflict');
      const removals = ['a', 'b', 'c'].map((name) => ({
        key: `/calico/pools/${name}`,
        value: undefined,
      }));
      await store.commit({ compares: [], writes: removals }, signal);
      assert.equal((await ranged(store, '/calico/pools/', 0n)).kind, 'committed');
    }));

  test('a comparison for new keys of a range holds until one is created', () =>
    withStore(async (store) => {
      const { revision } = await put(store, '/calico/blocks/a', 'one');
      const commit = () =>
        store.commit(
          {
            compares: [],
            ranges: [{ prefix: '/calico/blocks/', afterRevision: revision, isOfNewKeys: true }],
            writes: [{ key: '/calico/outcome', value: 'written' }],
          },
          signal,
        );
      assert.equal((await commit()).kind, 'committed');
      const { revision: made } = await put(store, '/calico/blocks/b', 'new');
      const conflict = await commit();
      assert.equal(conflict.kind === 'conflict' ? conflict.newestInRanges : undefined, made);
    }));

  test('exactly one of many writers that want to be the first of a range succeeds', () =>
    withStore(async (store) => {
      const { revision } = await listAll(store, '/calico/', signal);
      const results = await Promise.all(
        Array.from({ length: 30 }, (_, index) =>
          store.commit(
            {
              compares: [],
              ranges: [{ prefix: '/calico/first/', afterRevision: revision }],
              writes: [{ key: `/calico/first/${index}`, value: 'x' }],
            },
            signal,
          ),
        ),
      );
      assert.equal(results.filter(({ kind }) => kind === 'committed').length, 1);
      assert.equal((await listAll(store, '/calico/first/', signal)).items.length, 1);
    }));

  test('a watch reports every later change once, a transaction as a whole', () =>
    withStore(async (store) => {
      const { revision } = await listAll(store, '/calico/', signal);
      await put(store, '/calico/before', 'x');
      const stop = new AbortController();
      const seen: (readonly string[])[] = [];
      const watching = (async () => {
        for await (const { changes } of store.watch('/calico/', revision, stop.signal)) {
          seen.push(changes.map(({ key, value }) => `${key}=${value ?? 'gone'}`).toSorted());
          if (seen.flat().includes('/calico/last=x')) stop.abort();
        }
      })();
      await store.commit(
        {
          compares: [],
          writes: [
            { key: '/calico/c', value: '1' },
            { key: '/calico/d', value: '2' },
          ],
        },
        signal,
      );
      await put(store, '/elsewhere', 'x');
      await store.commit(
        { compares: [], writes: [{ key: '/calico/c', value: undefined }] },
        signal,
      );
      await put(store, '/calico/last', 'x');
      await watching;
      const flat = seen.flat();
      assert.ok(flat.includes('/calico/before=x') && flat.includes('/calico/c=gone'));
      assert.ok(!flat.some((text) => text.startsWith('/elsewhere')));
      const withD = seen.find((batch) => batch.includes('/calico/d=2'));
      assert.ok(
        withD?.some((text) => text.startsWith('/calico/c=')),
        'both writes in one batch',
      );
    }));

  test(
    'a watch behind a backlog never says that it has what it does not have',
    { timeout: 60_000 },
    () =>
      withStore(async (store) => {
        const { revision: start } = await listAll(store, '/calico/', signal);
        const revisions: bigint[] = [];
        for (let from = 0; from < 3500; from += 50) {
          const written = await Promise.all(
            Array.from({ length: 50 }, async (_, index) =>
              put(store, `/calico/${from + index}`, 'x'),
            ),
          );
          revisions.push(...written.map(({ revision }) => revision));
          // Writes of other clients count as well, and are not reported.
          await put(store, `/elsewhere/${from}`, 'x');
        }
        const has = new Set<bigint>();
        for await (const { revision, changes } of store.watch('/calico/', start, signal)) {
          for (const { modRevision } of changes) has.add(modRevision);
          const missing = revisions.filter((one) => one <= revision && !has.has(one));
          assert.deepEqual(missing, [], `of what it says to have up to ${revision}`);
          if (has.size === revisions.length) break;
        }
      }),
  );

  test('any sequence of transactions leaves the same state as a plain map', async () => {
    const key = fc.constantFrom('/calico/a', '/calico/b', '/calico/c');
    const step = fc.record({
      key,
      value: fc.option(fc.string({ maxLength: 20 }), { nil: undefined }),
      isStale: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) =>
        withStore(async (store) => {
          const model = new Map<string, KeyValue>();
          for (const { key: changed, value, isStale } of steps) {
            const present = model.get(changed)?.modRevision ?? 0n;
            const result = await store.commit(
              {
                compares: [{ key: changed, modRevision: isStale ? present + 1000n : present }],
                writes: [{ key: changed, value }],
              },
              signal,
            );
            assert.equal(result.kind, isStale ? 'conflict' : 'committed');
            if (result.kind === 'conflict') continue;
            if (value === undefined) model.delete(changed);
            else model.set(changed, { key: changed, value, modRevision: result.revision });
          }
          const { items } = await listAll(store, '/calico/', signal);
          const byKey = [...model.values()].toSorted((a, b) => (a.key < b.key ? -1 : 1));
          assert.deepEqual(items, byKey);
        }),
      ),
      { numRuns: 20 },
    );
  });
}
