import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Work } from '../async/supervise.ts';
import { loadSettings } from '../config/load.ts';
import { openMirroredStore } from '../cache/mirrored-store.fixture.ts';
import { initializeDatastore } from './initialize-datastore.ts';
import { presenceOf } from './node-presence.fixture.ts';

const signal = AbortSignal.timeout(600_000);
const resources = '/calico/resources/v3/projectcalico.org/';

/** Returns the objects that a host creates if a value is unreadable: ids by kind. */
async function startedWith(unreadable: string) {
  await using store = await openMirroredStore();
  const { mirror, writer } = store;
  const key = `${resources}${unreadable}`;
  await mirror.datastore.commit({ compares: [], writes: [{ key, value: '{' }] }, signal);
  const failures: unknown[] = [];
  const stop = new AbortController();
  const onFailure = ({ error }: { readonly error: unknown }) => {
    failures.push(error);
    stop.abort();
  };
  await initializeDatastore(
    {
      node: 'host-a',
      settings: loadSettings({}, '/nonexistent').settings,
      families: [4],
      mirror,
      writer,
      presence: presenceOf('host-a'),
      stamp: (resource) => resource,
      work: new Work('datastore initialization', { onFailure }),
      settle: () => Promise.resolve(),
      rangesInUse: () => [],
    },
    AbortSignal.any([stop.signal, signal]),
  );
  assert.deepEqual(failures, []);
  assert.equal(
    (await mirror.datastore.read([key], signal)).items[0]?.value,
    '{',
    'it is left as it is',
  );
  const kinds = ['ClusterInformation', 'Tier', 'Node', 'IPPool'] as const;
  return Object.fromEntries(kinds.map((kind) => [kind, [...mirror.list(kind).keys()]]));
}

const all = {
  ClusterInformation: ['default'],
  Tier: ['default'],
  Node: ['host-a'],
  IPPool: ['default-ipv4-ippool'],
};

test('an unreadable object does not keep a host from creating the other basic objects', async () => {
  assert.deepEqual(await startedWith('profiles/other'), all);
  assert.deepEqual(await startedWith('clusterinformations/default'), {
    ...all,
    ClusterInformation: [],
  });
  assert.deepEqual(await startedWith('tiers/default'), { ...all, Tier: [] });
  assert.deepEqual(await startedWith('nodes/host-a'), { ...all, Node: [] });
});

test('an unreadable pool may have any range: no default pool is created alongside it', async () => {
  assert.deepEqual(await startedWith('ippools/mine'), { ...all, IPPool: [] });
});
