import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { inBackground } from '../async/background.fixture.ts';
import { CalicoError } from '../errors/error.ts';
import type { Datastore, Write } from '../datastore/datastore.ts';
import { Work } from '../async/supervise.ts';
import { GroupWriter } from './group-writer.ts';
import { nodeScope } from './cache-scope.ts';
import { LiveMirror } from './live-mirror.ts';
import type { EntryChanges } from './mirror.ts';
import { keepSnapshot, readSnapshot } from './snapshot.ts';
import { readChanges, SnapshotChanges } from './snapshot-changes.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import { parseCidr } from '../ip/cidr.ts';
import { entryTypes } from '../model/kinds/index.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';

const signal = AbortSignal.timeout(600_000);

const work = new Work('snapshot', {
  onFailure: ({ error }) => {
    throw error;
  },
});

const away = () => new CalicoError('datastore/unavailable', { endpoint: 'x', why: 'away' });

/** Returns a datastore that is unavailable until `isBack`: listings and commits fail. */
function awayUntil(store: Datastore, isBack: () => boolean): Datastore {
  return {
    endpoint: store.endpoint,
    read: (keys, stop) => store.read(keys, stop),
    async *pages(prefix, stop) {
      if (!isBack()) throw away();
      yield* store.pages(prefix, stop);
    },
    commit: (transaction, stop) =>
      isBack() ? store.commit(transaction, stop) : Promise.reject(away()),
    watch: (prefix, after, stop) => store.watch(prefix, after, stop),
    close: () => store.close(),
  };
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'calico-snapshot-'));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Writes handles through a mirror with a snapshot, and stops it. */
async function saveHandles(store: Datastore, file: string, ids: readonly string[]): Promise<void> {
  const mirror = new LiveMirror(store);
  await using running = inBackground((stop) => mirror.run(stop));
  await using saving = inBackground((stop) => keepSnapshot({ mirror, file, work }, stop));
  await mirror.reached(0n, signal);
  await new GroupWriter(mirror).write((draft) => {
    for (const id of ids) draft.put('Handle', id, { block: { '10.0.0.0/26': 1 } });
  }, signal);
  await Promise.all([running.stop(), saving.stop()]);
}

test('a mirror uses the last snapshot while its datastore is unavailable, and then the present state', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'deep', 'snapshot.json');
    await saveHandles(store, file, ['kept', 'removed']);
    assert.equal((await stat(file)).mode & 0o777, 0o600);

    let isBack = false;
    const sometimes = awayUntil(store, () => isBack);
    const mirror = new LiveMirror(sometimes, () => readSnapshot(file, store));
    assert.throws(() => mirror.list('Handle'), { code: 'datastore/not-in-sync' });
    const batches: EntryChanges[] = [];
    mirror.subscribe((changes) => batches.push(changes));
    await using running = inBackground((stop) => mirror.run(stop));
    while (!mirror.inSync) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual([...mirror.list('Handle').keys()], ['kept', 'removed']);
    assert.ok(mirror.health.snapshotOf !== undefined && mirror.health.inSyncSince === undefined);
    assert.deepEqual(
      batches.map(({ isLive, changes }) => [isLive, changes.length]),
      [[false, 2]],
    );
    const write = new GroupWriter(mirror).write((draft) => draft.put('Handle', 'no', {}), signal);
    await assert.rejects(write, { code: 'datastore/unavailable' });

    const writes = [
      { key: '/calico/ipam/v2/handle/removed', value: undefined },
      { key: '/calico/ipam/v2/handle/new', value: '{}' },
    ];
    await store.commit({ compares: [], writes }, signal);
    isBack = true;
    await mirror.reached(0n, signal);
    assert.deepEqual([...mirror.list('Handle').keys()].toSorted(), ['kept', 'new']);
    assert.equal(mirror.health.snapshotOf, undefined);
    await running.stop();
    await store.close();
  }));

test('changes in quick succession are saved once, and nothing is written while nothing changes', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    const mirror = new LiveMirror(store);
    await using running = inBackground((stop) => mirror.run(stop));
    await using saving = inBackground((stop) => keepSnapshot({ mirror, file, work }, stop));
    await mirror.reached(0n, signal);
    const writer = new GroupWriter(mirror);
    for (const id of ['a', 'b', 'c']) {
      await writer.write((draft) => draft.put('Handle', id, {}), signal);
    }
    const saved = () => readFile(file, 'utf8').catch(() => '');
    while ((await saved()).split('\n').length !== 3 + 3)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const { ino, mtimeMs } = await stat(file);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.deepEqual([(await stat(file)).ino, (await stat(file)).mtimeMs], [ino, mtimeMs]);
    await Promise.all([running.stop(), saving.stop()]);
    assert.equal((await stat(file)).ino, ino, 'nothing is written at the end');
    await store.close();
  }));

test('a policy that cannot be read is in the snapshot, or in the changes since, and is as unreadable from there', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    const kind = 'GlobalNetworkPolicy';
    const key = (id: string) =>
      `/calico/resources/v3/projectcalico.org/globalnetworkpolicies/${id}`;
    const write = (id: string, value: string | undefined) =>
      store.commit({ compares: [], writes: [{ key: key(id), value }] }, signal);
    await write('before', '{"spec": 1}');
    const mirror = new LiveMirror(store);
    await using running = inBackground((stop) => mirror.run(stop));
    // Later changes are in the second file only.
    const options = { mirror, file, work, settleMs: 600_000 };
    await using saving = inBackground((stop) => keepSnapshot(options, stop));
    /** What a daemon that starts without the datastore knows. */
    const known = async () => {
      const later = new LiveMirror(
        awayUntil(store, () => false),
        () => readSnapshot(file, store),
      );
      await using reading = inBackground((stop) => later.run(stop));
      while (!later.inSync) await new Promise((resolve) => setTimeout(resolve, 5));
      await reading.stop();
      return [...later.allUnreadable(kind)].map(([id, { text }]) => `${id} ${text}`).toSorted();
    };
    const becomes = async (...expected: readonly string[]) => {
      while ((await known()).join('\n') !== expected.join('\n')) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    await mirror.reached(0n, signal);
    while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5));
    await becomes('before {"spec": 1}');
    await write('later', '{"spec": 2}');
    await becomes('before {"spec": 1}', 'later {"spec": 2}');
    await write('later', '{"spec": 3}');
    await becomes('before {"spec": 1}', 'later {"spec": 3}');
    await write('before', undefined);
    await becomes('later {"spec": 3}');
    await Promise.all([running.stop(), saving.stop()]);
    await becomes('later {"spec": 3}');
    await store.close();
  }));

test('a snapshot is that of a cluster, whatever its endpoints; one without a cluster is that of its endpoints', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    const at = (endpoint: string, cluster?: string): Datastore => ({
      ...awayUntil(store, () => true),
      endpoint,
      cluster,
    });
    const isUsed = async (datastore: Datastore) =>
      (await readSnapshot(file, datastore)) !== undefined;
    const [two, three] = ['https://a:2379,https://b:2379', 'https://a:2379,https://c:2379'];

    await saveHandles(at(two, '17'), file, ['a']);
    assert.ok(await isUsed(at(two)));
    assert.ok(await isUsed(at(three)), 'another member');
    assert.ok(await isUsed(at('https://192.0.2.1:2379', '17')), 'moved');
    assert.ok(!(await isUsed(at(two, '18'))), 'another cluster responded');

    await saveHandles(at(two), file, ['a']);
    assert.ok(await isUsed(at(two, '17')));
    assert.ok(!(await isUsed(at(three, '17'))));
    await store.close();
  }));

test('a snapshot of a newer format, or truncated, is ignored', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    await saveHandles(store, file, ['a']);
    assert.equal((await readSnapshot(file, store))?.entries.length, 1);
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('"format":1', '"format":2'));
    assert.equal(await readSnapshot(file, store), undefined);
    await writeFile(file, text.slice(0, -20));
    assert.equal(await readSnapshot(file, store), undefined);
    await store.close();
  }));

test('a damaged snapshot is ignored with a warning; a missing one without', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    const warnings: string[] = [];
    const read = () => readSnapshot(file, store, (warning) => warnings.push(warning));
    assert.equal(await read(), undefined);
    assert.deepEqual(warnings, []);
    await saveHandles(store, file, ['a', 'b']);
    const whole = await readFile(file, 'utf8');
    assert.equal((await read())?.entries.length, 2);
    const lengths = [0, 1, 20, whole.length / 2, whole.length - 3];
    const damaged = [...lengths.map((length) => whole.slice(0, length)), '\0\xff', '{}', 'null'];
    for (const text of damaged) {
      await writeFile(file, text);
      assert.equal(await read(), undefined, text);
    }
    assert.equal(warnings.length, damaged.length);
    await store.close();
  }));

test('changes since the last snapshot survive a kill, except an incomplete line', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    const mirror = new LiveMirror(store);
    await using running = inBackground((stop) => mirror.run(stop));
    const writer = new GroupWriter(mirror);
    const wait = () => new Promise((resolve) => setTimeout(resolve, 5));
    await mirror.reached(0n, signal);
    for (const id of ['a', 'b']) await writer.write((draft) => draft.put('Handle', id, {}), signal);
    // No second save during the test.
    await using saving = inBackground((stop) =>
      keepSnapshot({ mirror, file, work, settleMs: 600_000 }, stop),
    );
    const keys = async () =>
      (await readSnapshot(file, store))?.entries.map(([key]) => key.split('/').at(-1));
    while ((await keys())?.join() !== 'a,b') await wait();
    const { ino } = await stat(file);
    await writer.write((draft) => {
      draft.remove('Handle', 'a');
      draft.put('Handle', 'c', { block: {} });
    }, signal);
    await writer.write((draft) => draft.put('Handle', 'd', {}), signal);
    while ((await keys())?.join() !== 'b,c,d') await wait();
    assert.equal((await stat(file)).ino, ino);
    const changes = await readFile(`${file}.changes`, 'utf8');
    await writeFile(`${file}.changes`, changes.slice(0, -5));
    assert.deepEqual(await keys(), ['b', 'c']);
    await writeFile(`${file}.changes`, changes.replace(/^.*/, '2026-01-01T00:00:00.000Z'));
    assert.deepEqual(await keys(), ['a', 'b'], 'changes of another snapshot');
    await Promise.all([running.stop(), saving.stop()]);
    assert.deepEqual(await keys(), ['b', 'c', 'd']);
    await store.close();
  }));

test('changes since a snapshot are unknown if one was missed while it was saved', () =>
  inFolder(async (folder) => {
    const file = join(folder, 'snapshot.json');
    const since = new SnapshotChanges(file);
    const known = async (savedAt: string) => {
      await since.written();
      return [...(await readChanges(file, savedAt)).keys()];
    };
    const change = (key: string) => since.note(new Map([[key, null]]));
    since.begin();
    change('a');
    since.saved('1');
    change('b');
    assert.deepEqual(await known('1'), ['a', 'b']);
    since.begin();
    since.stop();
    change('c');
    since.saved('2');
    change('d');
    assert.deepEqual(await known('2'), [], 'c may follow from a change that is missing');
    since.begin();
    change('e');
    since.saved('3');
    assert.deepEqual(await known('3'), ['e']);
  }));

test('changes by another host of its endpoints and blocks since the last snapshot survive a kill', () =>
  inFolder(async (folder) => {
    const store = await openSqliteStore(join(folder, 'calico.db'));
    const file = join(folder, 'snapshot.json');
    const { WorkloadEndpoint, Block4, Profile } = entryTypes;
    const endpointWrite = (name: string, profile: string) => ({
      key: WorkloadEndpoint.key(`libnetwork/${name}`),
      value: WorkloadEndpoint.encode(endpointThere(name, profile)),
    });
    const cidr = parseCidr('10.0.0.0/31');
    const blockWrite = (host: string) => ({
      key: Block4.key(cidr),
      value: Block4.encode({
        cidr,
        affinity: `host:${host}`,
        allocations: [null, null],
        unallocated: [0, 1],
      }),
    });
    const commit = (writes: readonly Write[]) => store.commit({ compares: [], writes }, signal);
    await commit([endpointWrite('e1', 'old'), endpointWrite('e2', 'old'), blockWrite('there')]);
    const nodeMirror = (of: Datastore) =>
      new LiveMirror(of, () => readSnapshot(file, store), undefined, undefined, nodeScope('here'));
    const mirror = nodeMirror(store);
    await using running = inBackground((stop) => mirror.run(stop));
    await mirror.reached(0n, signal);
    // No second save during the test.
    await using saving = inBackground((stop) =>
      keepSnapshot({ mirror, file, work, settleMs: 600_000 }, stop),
    );
    const isSaved = async (key: string) =>
      (await readSnapshot(file, store))?.entries.some(([saved]) => saved === key) === true;
    const saved = async (key: string) => {
      while (!(await isSaved(key))) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await saved(Block4.key(cidr));
    const { ino } = await stat(file);
    await commit([
      endpointWrite('e1', 'new'),
      { key: WorkloadEndpoint.key('libnetwork/e2'), value: undefined },
      endpointWrite('e3', 'new'),
      blockWrite('elsewhere'),
    ]);
    const last = { kind: 'Profile', apiVersion: 'projectcalico.org/v3', spec: {} } as const;
    const value = Profile.encode({ ...last, metadata: { name: 'last' } });
    await commit([{ key: Profile.key('last'), value }]);
    await saved(Profile.key('last'));
    assert.equal((await stat(file)).ino, ino);

    const restarted = nodeMirror(awayUntil(store, () => false));
    await using again = inBackground((stop) => restarted.run(stop));
    while (!restarted.inSync) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(
      [...restarted.briefs('WorkloadEndpoint')].map(([id, { profiles }]) => [id, profiles]),
      [
        ['libnetwork/e1', ['new']],
        ['libnetwork/e3', ['new']],
      ],
    );
    assert.equal(restarted.brief('Block4', cidr)?.host, 'elsewhere');
    await Promise.all([again.stop(), running.stop(), saving.stop()]);
    await store.close();
  }));

function endpointThere(name: string, profile: string): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, namespace: 'libnetwork' },
    spec: {
      orchestrator: 'libnetwork',
      node: 'there',
      workload: name,
      endpoint: name,
      interfaceName: 'cali1',
      ipNetworks: [parseCidr('10.0.0.1/32')],
      profiles: [profile],
    },
  };
}
