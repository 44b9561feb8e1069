import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inBackground } from '../../src/async/background.fixture.ts';
import { datastoreContract } from '../../src/datastore/contract.fixture.ts';
import { listAll, type Datastore } from '../../src/datastore/datastore.ts';
import { openEtcdStore } from '../../src/datastore/etcd-store.ts';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import { followed } from '../../src/cache/mirrored-store.fixture.ts';
import { lockContract } from '../../src/cache/lock.fixture.ts';
import { startEtcd, startEtcdCluster, type Etcd } from '../lab/etcd.ts';

const signal = AbortSignal.timeout(600_000);

/** Values of one size. */
interface Many {
  readonly count: number;
  readonly bytes: number;
}

describe('etcd', () => {
  let etcd: Etcd;
  before(async () => {
    etcd = await startEtcd();
  });
  after(() => etcd[Symbol.asyncDispose]());

  const open = () => openEtcdStore({ endpoints: [etcd.endpoint] });

  datastoreContract(() => {
    etcd.etcdctl('del', '--prefix', '/');
    return open();
  });

  lockContract(() => {
    etcd.etcdctl('del', '--prefix', '/');
    return open();
  });

  test('a key with a lease exists until the lease is ended or expires', async () => {
    const store = await open();
    const leases = store.leases ?? assert.fail('etcd has leases');
    const key = '/calico/leased';
    const isThere = async () => (await store.read([key], signal)).items.length === 1;
    const put = (lease: string) =>
      store.commit({ compares: [], writes: [{ key, value: 'x', lease }] }, signal);
    const ended = await leases.grant(90);
    await put(ended);
    assert.equal(await leases.renew(ended), true);
    assert.ok(((await leases.ageSeconds(ended)) ?? 90) < 30);
    await leases.revoke(ended);
    assert.equal(await isThere(), false);
    assert.equal(await leases.renew(ended), false);
    assert.equal(await leases.ageSeconds(ended), undefined);
    await put(await leases.grant(1));
    while (await isThere()) await sleep(100);
    await store.close();
  });

  test('after an interruption a mirror hears of the changes since; it lists again only if they are unknown', async () => {
    const store = await open();
    const key = (id: string) => `/calico/ipam/v2/handle/${id}`;
    const write = (id: string, value?: string) =>
      store.commit({ compares: [], writes: [{ key: key(id), value }] }, signal);
    let listings = 0;
    let isKnown = true;
    const counted: Datastore = {
      endpoint: store.endpoint,
      read: (keys, stop) => store.read(keys, stop),
      pages: (...asked) => {
        listings++;
        return store.pages(...asked);
      },
      commit: (transaction, stop) => store.commit(transaction, stop),
      watch: (prefix, after, stop) => store.watch(prefix, after, stop),
      hasWritten: async (last, stop) => isKnown && (await store.hasWritten?.(last, stop)) === true,
      close: () => store.close(),
    };
    await write('kept', '{}');
    await write('removed', '{}');
    await using following = await followed(counted);
    const { mirror } = following;
    await write('removed');
    while (mirror.get('Handle', 'removed') !== undefined) await sleep(20);
    const reached = mirror.revision;
    for (const id of ['later', 'latest']) {
      isKnown = id === 'later';
      await etcd.stop();
      while (mirror.health.inSyncSince !== undefined) await sleep(20);
      await etcd.start();
      await retried(() => write(id, '{}'));
      while (mirror.get('Handle', id) === undefined) await sleep(20);
      assert.ok(mirror.get('Handle', 'kept') !== undefined);
      assert.equal(mirror.get('Handle', 'removed'), undefined);
      assert.ok(mirror.revision > reached);
      // A listing that fails while etcd starts is repeated.
      assert.ok(isKnown ? listings === 1 : listings > 1, `${listings} listings`);
    }
  });

  test('a write is known until it is compacted, and not with another value or a later revision', async () => {
    const store = await open();
    const key = '/calico/written';
    const put = (value: string) => store.commit({ compares: [], writes: [{ key, value }] }, signal);
    const { revision: modRevision } = await put('1');
    const { revision: latest } = await put('2');
    const isKnown = (value: string, at: bigint) =>
      store.hasWritten?.({ key, value, modRevision: at }, signal);
    assert.equal(await isKnown('1', modRevision), true);
    assert.equal(await isKnown('2', latest), true);
    assert.equal(await isKnown('2', modRevision), false);
    assert.equal(await isKnown('2', latest + 1n), false);
    etcd.etcdctl('compact', latest.toString());
    assert.equal(await isKnown('1', modRevision), false);
    assert.equal(await isKnown('2', latest), true);
    await store.close();
  });

  test('a stopped etcd is told by its address soon, and is used again when it is back', async () => {
    const store = await open();
    await store.read(['/calico/x'], signal);
    await etcd.stop();
    const started = Date.now();
    await assert.rejects(
      store.commit({ compares: [], writes: [{ key: '/calico/x', value: '1' }] }, signal),
      (error: unknown) => error instanceof Error && error.message.includes(etcd.endpoint),
    );
    assert.ok(Date.now() - started < 50_000, 'it does not wait for etcd');
    await etcd.start();
    await retried(() => store.read(['/calico/x'], signal));
    await store.close();
  });

  test('a write into a stalled etcd is answered, and the answer is what happened', async () => {
    const store = await open();
    etcd.etcdctl('del', '--prefix', '/');
    await store.read(['/calico/x'], signal);
    etcd.stall();
    setTimeout(() => etcd.resume(), 2500);
    const outcome = await store
      .commit(
        {
          compares: [{ key: '/calico/stalled', modRevision: 0n }],
          writes: [{ key: '/calico/stalled', value: '1' }],
        },
        signal,
      )
      .then(
        ({ kind }) => kind,
        () => 'failed',
      );
    const { items } = await retried(() => store.read(['/calico/stalled'], signal));
    const [stored] = items;
    assert.equal(outcome, stored === undefined ? 'failed' : 'committed');
    await store.close();
  });

  test('a transaction that is too large for etcd is told to be certainly not applied', async () => {
    const store = await open();
    etcd.etcdctl('del', '--prefix', '/');
    const sizes = [
      { count: 129, bytes: 10 },
      // More than etcd takes, and more than its connection does.
      { count: 10, bytes: 180_000 },
      { count: 10, bytes: 400_000 },
    ];
    for (const { count, bytes } of sizes) {
      const writes = Array.from({ length: count }, (_, index) => ({
        key: `/calico/${index}`,
        value: 'v'.repeat(bytes),
      }));
      const compares = writes.map(({ key }) => ({ key, modRevision: 0n }));
      await assert.rejects(store.commit({ compares, writes }, signal), {
        code: 'datastore/too-large',
      });
    }
    assert.deepEqual((await listAll(store, '/calico/', signal)).items, []);
    await store.close();
  });

  test('the largest plans that the writer lets through are such that etcd takes them', async () => {
    const store = await open();
    etcd.etcdctl('del', '--prefix', '/');
    const mirror = new LiveMirror(store);
    await using running = inBackground((stop) => mirror.run(stop));
    await mirror.reached(0n, signal);
    const writer = new GroupWriter(mirror);
    await writer.write((draft) => {
      for (let index = 0; index < 127; index++) draft.put('Handle', `h${index}`, {});
    }, signal);
    let refused = 0;
    for (const kilobytes of [1400, 1450, 1490, 1499, 1505]) {
      const block = { ['b'.repeat(kilobytes * 1000)]: 1 };
      try {
        await writer.write((draft) => draft.put('Handle', `b${kilobytes}`, { block }), signal);
      } catch (error) {
        assert.match(String(error), / MB of at most 1\.5 MB\), nothing was written/);
        refused++;
      }
    }
    assert.deepEqual([refused, mirror.list('Handle').size], [1, 127 + 4]);
    await running.stop();
    await store.close();
  });

  // Above gRPC's 4 MiB in one page of 5,000, and in one answer of a watch behind so many.
  const manyValues = async (store: Datastore, { count, bytes }: Many): Promise<void> => {
    etcd.etcdctl('del', '--prefix', '/');
    const value = 'v'.repeat(bytes);
    const keys = Array.from({ length: count }, (_, index) => `/calico/${index}`);
    const perTransaction = Math.min(100, Math.floor((1 << 20) / bytes));
    for (let from = 0; from < count; from += perTransaction) {
      const writes = keys.slice(from, from + perTransaction).map((key) => ({ key, value }));
      await store.commit({ compares: [], writes }, signal);
    }
  };

  const many: readonly Many[] = [
    { count: 6000, bytes: 1300 },
    { count: 300, bytes: 300_000 },
    ...(process.env['CALICO_TEST_LONG'] === '1' ? [{ count: 250_000, bytes: 1270 }] : []),
  ];
  for (const { count, bytes } of many) {
    test(`${count} values of ${bytes} bytes are listed, and watched by one who is behind`, async () => {
      const store = await open();
      const start = BigInt(headerOf(etcd.etcdctl('get', '/x', '-w', 'json')).header.revision);
      await manyValues(store, { count, bytes });
      const { items } = await listAll(store, '/calico/', signal);
      assert.equal(items.length, count);
      assert.ok(items.every(({ value }) => value.length === bytes));
      const size = new Map<bigint, number>();
      for (const { modRevision } of items) {
        size.set(modRevision, (size.get(modRevision) ?? 0) + 1);
      }
      let seen = 0;
      for await (const { changes } of store.watch('/calico/', start, signal)) {
        const written = changes.filter(({ value }) => value !== undefined);
        const inBatch = Map.groupBy(written, ({ modRevision }) => modRevision);
        for (const [revision, group] of inBatch) assert.equal(group.length, size.get(revision));
        seen += written.length;
        if (seen >= count) break;
      }
      await store.close();
    });
  }

  test('a mirror whose history was compacted away lists anew and tells what changed meanwhile', async () => {
    const store = await open();
    etcd.etcdctl('del', '--prefix', '/');
    const mirror = new LiveMirror(store);
    await using running = inBackground((stop) => mirror.run(stop));
    await mirror.reached(0n, signal);
    const writer = new GroupWriter(mirror);
    await writer.write((draft) => draft.put('Handle', 'old', {}), signal);
    await etcd.stop();
    await etcd.start();
    etcd.etcdctl('del', '/calico/ipam/v2/handle/old');
    etcd.etcdctl('put', '/calico/ipam/v2/handle/new', '{}');
    const { header } = headerOf(etcd.etcdctl('get', '/x', '-w', 'json'));
    etcd.etcdctl('compact', String(header.revision));
    await mirror.reached(BigInt(header.revision), signal);
    assert.deepEqual([...mirror.list('Handle').keys()], ['new']);
    await running.stop();
    await store.close();
  });
});

test('a member of etcd that has lost the others ends its watches', async () => {
  // Loopback addresses of this process alone, because members have the default ports.
  const net = `127.${64 + ((process.pid >> 8) & 63)}.${process.pid & 255}`;
  const members = await startEtcdCluster(
    [1, 2, 3].map((last) => `${net}.${last}`),
    {},
  );
  await using _ = { [Symbol.asyncDispose]: () => disposeOf(members) };
  const [first, ...others] = members;
  assert.ok(first);
  const store = await openEtcdStore({ endpoints: [first.endpoint] });
  const { revision } = await store.read(['/calico/x'], signal);
  const batches = store.watch('/calico/', revision, signal)[Symbol.asyncIterator]();
  const batch = batches.next();
  first.etcdctl('put', '/calico/x', '1');
  assert.equal((await batch).done, false);
  for (const other of others) other.stall();
  await assert.rejects(batches.next(), { code: 'datastore/watch-lost' });
  for (const other of others) other.resume();
  await retried(() => store.read(['/calico/x'], signal));
  // The members have changed: the store moves to others, and its watch goes on.
  const { revision: before } = await store.read(['/calico/x'], signal);
  const moved = store.watch('/calico/', before, signal)[Symbol.asyncIterator]();
  const next = moved.next();
  await store.reconnect?.(others.map((other) => other.endpoint));
  await first.stop();
  await retried(() => store.read(['/calico/x'], signal));
  others[0]?.etcdctl('put', '/calico/x', '2');
  assert.equal((await next).done, false);
  await store.close();
});

async function disposeOf(members: readonly Etcd[]): Promise<void> {
  for (const member of members) member.resume();
  await Promise.all(members.map((member) => member[Symbol.asyncDispose]()));
}

function headerOf(text: string): { readonly header: { readonly revision: number } } {
  const parsed: unknown = JSON.parse(text);
  assert.ok(typeof parsed === 'object' && parsed !== null && 'header' in parsed);
  const { header } = parsed;
  assert.ok(typeof header === 'object' && header !== null && 'revision' in header);
  return { header: { revision: Number(header.revision) } };
}

async function retried<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (attempt > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
