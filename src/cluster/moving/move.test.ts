import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { listAll, type Datastore } from '../../datastore/datastore.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { addressAt, parseCidr } from '../../ip/cidr.ts';
import { newBlock, withAllocation } from '../../ipam/records/block.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { isCalicoError } from '../../errors/error.ts';
import { BreakingStores } from './breaking-stores.fixture.ts';
import { moveData, type MoveOptions } from './move.ts';
import { settleMove } from './settle-move.ts';

const signal = AbortSignal.timeout(600_000);
const lockKey = '/calico/resources/v3/projectcalico.org/clusterinformations/default';
const lockText = (guid: string) =>
  `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","x":1},"spec":{"clusterGUID":"${guid}","datastoreReady":true,"later":[1]}}`;
const poolKey = (name: string) => `/calico/resources/v3/projectcalico.org/ippools/${name}`;
const poolText = (name: string, cidr: string, uid = 'a') =>
  `{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"${name}","uid":"${uid}"},"spec":{"cidr":"${cidr}"}}`;

async function storeOf(values: Readonly<Record<string, string>>): Promise<Datastore> {
  const store = await openSqliteStore(':memory:');
  const writes = Object.entries(values).map(([key, value]) => ({ key, value }));
  if (writes.length > 0) await store.commit({ compares: [], writes }, signal);
  return store;
}

const valuesOf = async (store: Datastore) =>
  Object.fromEntries(
    (await listAll(store, '/', signal)).items.map(({ key, value }) => [key, value]),
  );

function move(source: Datastore, target: Datastore, more: Partial<MoveOptions> = {}) {
  const progress: string[] = [];
  return moveData(
    {
      node: 'host-1',
      source,
      target,
      mode: 'empty',
      now: () => new Date(),
      progress: (line) => progress.push(line),
      quiesce: () => Promise.resolve(),
      ...more,
    },
    signal,
  );
}

const ours = (guid = 'ours') => ({
  [lockKey]: lockText(guid),
  [poolKey('default-ipv4-ippool')]: poolText('default-ipv4-ippool', '10.65.0.0/16'),
  '/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26':
    '{"cidr":"10.65.0.0/26","affinity":"host:host-1","sequenceNumber":1857372036854775811}',
  '/calico/unknown/kind': 'not JSON\n',
  '/calico/docker/v1/host/host-1/pool/x': '{"poolId":"x"}',
});

describe('moving all data', () => {
  test('any values arrive byte for byte, in steps that fit a transaction; the source is closed', async () => {
    const key = fc.stringMatching(/^[a-z0-9/]{1,30}$/).map((text) => `/calico/any/${text}`);
    const value = fc.oneof(fc.string({ unit: 'grapheme' }), fc.json(), fc.bigInt().map(String));
    await fc.assert(
      fc.asyncProperty(fc.dictionary(key, value, { maxKeys: 300 }), async (random) => {
        const all = { ...ours(), ...random };
        const [source, target] = [await storeOf(all), await storeOf({})];
        const { moved, finish } = await move(source, target);
        await finish(signal);
        assert.deepEqual(await valuesOf(target), all);
        assert.equal(moved, Object.keys(all).length - 1);
        await assert.rejects(move(source, await storeOf({})), { code: 'datastore/moved' });
      }),
      { numRuns: 30 },
    );
  });

  test('large values are copied in several transactions', async () => {
    const large = Object.fromEntries(
      Array.from({ length: 12 }, (_, n) => [`/calico/large/${n}`, 'x'.repeat(400_000)]),
    );
    const all = { ...ours(), ...large };
    const [source, target] = [await storeOf(all), await storeOf({})];
    const lines: string[] = [];
    const { finish } = await move(source, target, { progress: (line) => lines.push(line) });
    await finish(signal);
    assert.deepEqual(await valuesOf(target), all);
    assert.ok(lines.filter((line) => line.startsWith('copied')).length >= 5, lines.join('; '));
  });

  test('it goes back, over the copy that is out of date, and there again', async () => {
    const [file, etcd] = [await storeOf(ours()), await storeOf({})];
    await (await move(file, etcd)).finish(signal);
    await etcd.commit({ compares: [], writes: [{ key: '/calico/new', value: '1' }] }, signal);
    await etcd.commit(
      { compares: [], writes: [{ key: '/calico/unknown/kind', value: undefined }] },
      signal,
    );
    const changed = await valuesOf(etcd);
    await (await move(etcd, file)).finish(signal);
    assert.deepEqual(await valuesOf(file), changed);
    await (await move(file, etcd)).finish(signal);
    assert.deepEqual(await valuesOf(etcd), changed);
  });

  test('a target with other data is refused, and nothing changes on either side', async () => {
    for (const others of [ours('theirs'), { '/calico/anything': 'x' }, ours('ours')]) {
      const [source, target] = [await storeOf(ours()), await storeOf(others)];
      await assert.rejects(move(source, target), { code: 'datastore/has-data' });
      assert.deepEqual(await valuesOf(source), ours());
      assert.deepEqual(await valuesOf(target), others);
    }
  });

  test('data of several nodes is not moved to a file', async () => {
    const key = entryTypeOf.Node.key('host-2');
    const all = { ...ours(), [entryTypeOf.Node.key('host-1')]: '{}', [key]: '{}' };
    const [source, target] = [await storeOf(all), await storeOf({})];
    await assert.rejects(move(source, target), { code: 'datastore/has-nodes' });
    assert.deepEqual(await valuesOf(source), all);
    assert.deepEqual(await valuesOf(target), {});
  });

  test('a value that exceeds a transaction is refused before anything changes', async () => {
    const all = { ...ours(), '/calico/huge': 'x'.repeat(1_600_000) };
    const [source, target] = [await storeOf(all), await storeOf({})];
    await assert.rejects(move(source, target), { code: 'datastore/too-large' });
    assert.deepEqual(await valuesOf(source), all);
    assert.deepEqual(await valuesOf(target), {});
  });

  test('a writer from before the move conflicts; one that unlocks meanwhile makes the move fail, undone', async () => {
    const [source, target] = [await storeOf(ours()), await storeOf({})];
    const [before] = (await source.read([lockKey], signal)).items;
    assert.ok(before !== undefined);
    const compares = [{ key: lockKey, modRevision: before.modRevision }];
    const writing = { compares, writes: [{ key: '/calico/late', value: 'x' }] };
    const outcomes: string[] = [];
    let isUnlocked = false;
    const progress = async (line: string): Promise<void> => {
      if (!line.startsWith('locked')) return;
      outcomes.push((await source.commit(writing, signal)).kind);
      if (!isUnlocked) return;
      await source.commit(
        { compares: [], writes: [{ key: lockKey, value: lockText('ours') }] },
        signal,
      );
      await source.commit({ compares: [], writes: [{ key: '/calico/late', value: 'x' }] }, signal);
    };
    const started: Promise<void>[] = [];
    const run = () => move(source, target, { progress: (line) => started.push(progress(line)) });
    isUnlocked = true;
    await assert.rejects(run(), { code: 'datastore/move-failed' });
    await Promise.all(started);
    assert.deepEqual(outcomes, ['conflict']);
    assert.deepEqual(await valuesOf(source), { ...ours(), '/calico/late': 'x' });
    isUnlocked = false;
    await (await run()).finish(signal);
    assert.deepEqual(await valuesOf(target), { ...ours(), '/calico/late': 'x' });
  });
});

describe('moving into a datastore of other hosts', () => {
  const theirs = () => ({
    [lockKey]: lockText('theirs'),
    [poolKey('default-ipv4-ippool')]: poolText('default-ipv4-ippool', '10.65.0.0/16', 'b'),
    [poolKey('default-ipv6-ippool')]: poolText('default-ipv6-ippool', 'fd02::/48', 'b'),
    '/calico/docker/v1/host/host-2/pool/x': '{"poolId":"x"}',
  });
  const withPool6 = () => ({
    ...ours(),
    [poolKey('default-ipv6-ippool')]: poolText('default-ipv6-ippool', 'fd01::/48'),
  });
  const joined = () => {
    const { [lockKey]: _lock, ...own } = ours();
    return {
      ...own,
      ...theirs(),
      [poolKey('default-ipv6-ippool-host-1')]: poolText('default-ipv6-ippool-host-1', 'fd01::/48'),
    };
  };

  test('equal values are kept, a default pool of another range gets another name, all else is added', async () => {
    const [source, target] = [await storeOf(withPool6()), await storeOf(theirs())];
    const { kept, finish } = await move(source, target, { mode: 'shared' });
    await finish(signal);
    assert.equal(kept, 1);
    assert.deepEqual(await valuesOf(target), joined());
  });

  test('a pool of a range that the target has, and an empty block where it has one, are not copied', async () => {
    const block = (text: string, node: string, isUsed: boolean) => {
      const cidr = parseCidr(text);
      const empty = newBlock(cidr, node, new Date());
      const used = withAllocation(empty, addressAt(cidr, 0n), { handle_id: 'h' });
      return entryTypeOf.Block4.encode(isUsed ? used : empty);
    };
    const root = '/calico/ipam/v2';
    const blockKey = (name: string) => `${root}/assignment/ipv4/block/${name}`;
    const affinityKey = (node: string, name: string) => `${root}/host/${node}/ipv4/block/${name}`;
    const claim = { state: 'confirmed', deleted: false };
    const own = {
      ...ours(),
      [poolKey('mine')]: poolText('mine', '10.66.0.0/16'),
      [blockKey('10.65.1.0-31')]: block('10.65.1.0/31', 'host-1', false),
      [affinityKey('host-1', '10.65.1.0-31')]: JSON.stringify(claim),
      [blockKey('10.65.2.0-31')]: block('10.65.2.0/31', 'host-1', true),
      [affinityKey('host-1', '10.65.2.0-31')]: JSON.stringify(claim),
    };
    const other = {
      ...theirs(),
      [poolKey('yours')]: poolText('yours', '10.66.0.0/16').replace(
        '}}',
        ',"vxlanMode":"Always"}}',
      ),
      [blockKey('10.65.1.0-30')]: block('10.65.1.0/30', 'host-2', true),
    };
    const [source, target] = [await storeOf(own), await storeOf(other)];
    const { finish } = await move(source, target, { mode: 'shared' });
    await finish(signal);
    const all = await valuesOf(target);
    assert.equal(all[poolKey('mine')], undefined);
    assert.equal(all[blockKey('10.65.1.0-31')], undefined);
    assert.equal(all[affinityKey('host-1', '10.65.1.0-31')], undefined);
    assert.equal(all[blockKey('10.65.2.0-31')], own[blockKey('10.65.2.0-31')]);
    assert.equal(all[affinityKey('host-1', '10.65.2.0-31')], JSON.stringify(claim));
  });

  test('values of another meaning are refused by name, and nothing changes', async () => {
    const other = { ...theirs(), '/calico/docker/v1/host/host-1/pool/x': '{"poolId":"y"}' };
    const [source, target] = [await storeOf(withPool6()), await storeOf(other)];
    await assert.rejects(move(source, target, { mode: 'shared' }), (error) => {
      assert.ok(isCalicoError(error, 'datastore/collision'));
      assert.match(error.message, /Docker pool host-1\/x/);
      return true;
    });
    assert.deepEqual(await valuesOf(source), withPool6());
    assert.deepEqual(await valuesOf(target), other);
  });

  test('a move that fails leaves the other data as it was', async () => {
    const [source, target] = [await storeOf(withPool6()), await storeOf(theirs())];
    const quiesce = async () => {
      // Somebody locks the other cluster for maintenance.
      const value = lockText('theirs').replace('true', 'false');
      await target.commit({ compares: [], writes: [{ key: lockKey, value }] }, signal);
    };
    await assert.rejects(move(source, target, { mode: 'shared', quiesce }), {
      code: 'datastore/move-failed',
    });
    assert.deepEqual(await valuesOf(source), withPool6());
    const { [lockKey]: _lock, ...others } = theirs();
    const { [lockKey]: _own, ...left } = await valuesOf(target);
    assert.deepEqual(left, others);
  });

  killedAnywhere('shared', { before: withPool6, there: theirs, after: joined });
});

describe('a move to an empty datastore', () => {
  killedAnywhere('empty', { before: ours, there: () => ({}), after: ours });
});

/** The process ends before each of the calls to a datastore in turn; then the daemon starts again, and the move is repeated. */
function killedAnywhere(
  mode: MoveOptions['mode'],
  {
    before,
    there,
    after,
  }: Readonly<Record<'before' | 'there' | 'after', () => Readonly<Record<string, string>>>>,
): void {
  test('killed at any call: one of the two has the data, and the move can be repeated', async () => {
    const more = Object.fromEntries(
      Array.from({ length: 250 }, (_, n) => [`/calico/many/${n}`, String(n)]),
    );
    for (let calls = 1; ; calls++) {
      const [source, target] = [
        await storeOf({ ...before(), ...more }),
        await storeOf({ ...there() }),
      ];
      const breaking = new BreakingStores(calls);
      const isKilled = await move(breaking.of(source), breaking.of(target), { mode })
        .then((outcome) => outcome.finish(signal))
        .then(
          () => false,
          () => true,
        );
      const other = (store: Datastore) => () =>
        Promise.resolve({ ...viewOf(store), close: () => Promise.resolve() });
      await settleMove(source, { node: 'host-1', other: () => Promise.resolve(undefined) }, signal);
      const { datastoreReady } = await readyOf(source);
      if (datastoreReady) {
        const unlocked = await valuesOf(source);
        const { [lockKey]: lock = '', ...rest } = unlocked;
        const { [lockKey]: original = '', ...expected } = { ...before(), ...more };
        assert.deepEqual(rest, expected, `after ${calls} calls`);
        assert.deepEqual(JSON.parse(lock), JSON.parse(original));
        await (await move(source, target, { mode })).finish(signal);
      } else {
        await settleMove(target, { node: 'host-1', other: other(source) }, signal);
      }
      const { [lockKey]: lock = '', ...rest } = await valuesOf(target);
      const { [lockKey]: original = '', ...expected } = { ...after(), ...more };
      assert.deepEqual(rest, expected, `after ${calls} calls`);
      assert.deepEqual(JSON.parse(lock), JSON.parse(original));
      if (!isKilled) {
        assert.ok(calls > 12, `only ${calls} calls`);
        return;
      }
    }
  });
}

async function readyOf(store: Datastore): Promise<{ readonly datastoreReady: boolean }> {
  const [item] = (await store.read([lockKey], signal)).items;
  return { datastoreReady: item?.value.includes('"datastoreReady":true') ?? true };
}

function viewOf(store: Datastore): Datastore {
  return {
    endpoint: store.endpoint,
    read: (...args) => store.read(...args),
    pages: (...args) => store.pages(...args),
    commit: (...args) => store.commit(...args),
    watch: (...args) => store.watch(...args),
    close: () => store.close(),
  };
}
