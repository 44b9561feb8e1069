import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import { GroupWriter } from '../../cache/group-writer.ts';
import { raced, type Race } from '../../cache/raced-store.fixture.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import type { Draft } from '../../datastore/writer.ts';
import { plainEndpoint, plainNetwork } from '../endpoints/endpoint.fixture.ts';
import { plainDefinition as web } from './definition.fixture.ts';
import {
  checkNotRemoving,
  defineNetwork,
  networkIsGone,
  removeDefinition,
  reportNetwork,
} from './definition-plans.ts';
import { endpointEntryId } from '../../model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../../model/namespaces.ts';

const signal = AbortSignal.timeout(600_000);
const now = new Date('2026-11-29T00:00:00Z');

/** A datastore with two nodes, as two hosts and a command write it. */
async function openCluster(namespace?: string) {
  const options = namespace === undefined ? {} : { namespace };
  let inner: Datastore | undefined;
  const race: Race = { beforeCommit: undefined };
  const store = await openMirroredStore((opened) => {
    inner = opened;
    return raced(opened, race);
  });
  const command = new GroupWriter(new UncachedView(inner ?? assert.fail()));
  const write = <Result>(plan: (draft: Draft) => Result) =>
    command.write(plan, signal).then(({ result }) => result);
  await write((draft) => {
    for (const name of ['host-1', 'host-2']) {
      draft.put('Node', name, {
        kind: 'Node',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec: {},
      });
    }
    defineNetwork(draft, { ...web, options });
    draft.put('DockerNetwork', 'host-1/n1', {
      ...plainNetwork('host-1', 'n1'),
      name: 'web',
      options,
    });
  });
  await store.mirror.reached(1n, signal);
  return {
    write,
    race,
    /** The writer of a host's daemon, with a cache. */
    daemon: store.writer,
    /** A writer without a cache. */
    racing: new GroupWriter(new UncachedView(store.mirror.datastore)),
    definition: () => write((draft) => draft.get('NetworkDefinition', 'web')),
    report: (node: string, definition = web) =>
      write((draft) => reportNetwork(draft, definition, { node, now, state: 'created' })),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

function addEndpoint(draft: Draft, id: string, namespace: string = defaultNamespace): void {
  const network = { ...plainNetwork('host-1', 'n1'), name: 'web' };
  draft.put(
    'WorkloadEndpoint',
    endpointEntryId('host-1', id, namespace),
    plainEndpoint(network, id, '10.0.0.1'),
  );
}

test('a definition is written once; other settings are rejected, equal ones accepted', async () => {
  await using cluster = await openCluster();
  const again = { ...web, uid: 'u2', createdAt: 'later' };
  assert.equal((await cluster.write((draft) => defineNetwork(draft, again))).uid, 'u1');
  const other = { ...web, internal: true };
  await assert.rejects(
    cluster.write((draft) => defineNetwork(draft, other)),
    { code: 'driver/definition-differs' },
  );
});

test('a removal is rejected with the containers of all hosts', async () => {
  await using cluster = await openCluster();
  await cluster.write((draft) => addEndpoint(draft, 'e1'));
  await assert.rejects(
    cluster.write((draft) => removeDefinition(draft, 'web')),
    /network web is in use by endpoint e1 on host-1; stop/,
  );
  assert.equal((await cluster.definition())?.isRemoving, undefined);
});

test('of a removal and a new endpoint at the same time, one is rejected, whatever its namespace', async () => {
  for (const [isRemovalFirst, namespace] of [
    [true, undefined],
    [true, 'shop'],
    [false, undefined],
    [false, 'shop'],
  ] as const) {
    await using cluster = await openCluster(namespace);
    await cluster.report('host-1');
    const create = (draft: Draft) => {
      checkNotRemoving(draft, 'web');
      addEndpoint(draft, 'e1', namespace);
    };
    const remove = (draft: Draft) => removeDefinition(draft, 'web');
    const [outer, inner] = isRemovalFirst ? [create, remove] : [remove, create];
    cluster.race.beforeCommit = () => cluster.write(inner);
    const writer = isRemovalFirst ? cluster.daemon : cluster.racing;
    await assert.rejects(writer.write(outer, signal), {
      code: isRemovalFirst ? 'driver/network-removing' : 'driver/definition-in-use',
    });
    // Only the other one has committed.
    const endpoints = await cluster.write((draft) => [...draft.entries('WorkloadEndpoint')]);
    assert.equal(endpoints.length, isRemovalFirst ? 0 : 1);
    assert.equal((await cluster.definition())?.isRemoving, isRemovalFirst ? true : undefined);
  }
});

test('a definition in removal stays while a host may have its network, and can be created again', async () => {
  await using cluster = await openCluster();
  for (const node of ['host-1', 'host-2']) assert.equal(await cluster.report(node), 'written');
  await cluster.write((draft) => removeDefinition(draft, 'web'));
  const removing = await cluster.definition();
  assert.ok(removing?.isRemoving);
  // A host that has not noticed yet must not create it.
  assert.equal(await cluster.report('host-2'), 'stale');
  await cluster.write((draft) => networkIsGone(draft, removing, 'host-1'));
  await assert.rejects(
    cluster.write((draft) => defineNetwork(draft, { ...web, internal: true })),
    /is still on host-2; start/,
  );
  assert.equal((await cluster.write((draft) => defineNetwork(draft, web))).uid, 'u1');
  assert.equal((await cluster.definition())?.isRemoving, undefined);
  await cluster.write((draft) => removeDefinition(draft, 'web'));
  await cluster.write((draft) => networkIsGone(draft, removing, 'host-2'));
  assert.equal(await cluster.definition(), undefined);
  assert.equal(await cluster.report('host-1'), 'stale');
});

test('two hosts that remove their networks at the same time leave no definition', async () => {
  await using cluster = await openCluster();
  for (const node of ['host-1', 'host-2']) await cluster.report(node);
  await cluster.write((draft) => removeDefinition(draft, 'web'));
  const removing = (await cluster.definition()) ?? assert.fail('no definition');
  const gone = (node: string) => (draft: Draft) => networkIsGone(draft, removing, node);
  cluster.race.beforeCommit = () => cluster.write(gone('host-2'));
  await cluster.racing.write(gone('host-1'), signal);
  assert.equal(await cluster.definition(), undefined);
});

test('a host whose Node was deleted does not keep a definition; its report is not that of the node that removes it', async () => {
  await using cluster = await openCluster();
  await cluster.report('host-2');
  await cluster.write((draft) => draft.remove('Node', 'host-2'));
  await cluster.write((draft) => removeDefinition(draft, 'web'));
  assert.equal(await cluster.definition(), undefined);
  const reports = await cluster.write((draft) => [...draft.entries('NetworkReport')]);
  assert.deepEqual(
    reports.map(([id]) => id),
    ['host-2/web'],
  );
});

test('a report is written only if it changed', async () => {
  await using cluster = await openCluster();
  await cluster.report('host-1');
  const later = new Date('2026-11-30T00:00:00Z');
  const stored = () => cluster.write((draft) => draft.get('NetworkReport', 'host-1/web'));
  for (const state of ['creating', 'created'] as const) {
    const report = { node: 'host-1', now: later, state };
    await cluster.write((draft) => reportNetwork(draft, web, report));
    assert.equal((await stored())?.since, now.toISOString());
  }
  const failed = { node: 'host-1', now: later, state: 'failed', why: 'overlap' } as const;
  await cluster.write((draft) => reportNetwork(draft, web, failed));
  assert.deepEqual((await stored())?.why, 'overlap');
});
