import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Datastore } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import { parseCidr } from '../ip/cidr.ts';
import { entryTypes } from '../model/kinds/index.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { GroupWriter } from './group-writer.ts';
import { heldByNode } from './holding.ts';
import { LiveMirror } from './live-mirror.ts';
import { MustRead } from './view.ts';

const signal = AbortSignal.timeout(600_000);

/** Two nodes on one store, of which each holds what it needs. */
async function withNodes(
  use: (
    here: LiveMirror,
    there: LiveMirror,
    writers: readonly [GroupWriter, GroupWriter],
  ) => Promise<void>,
  prepare: (store: Datastore) => Promise<unknown> = () => Promise.resolve(),
): Promise<void> {
  const store = await openSqliteStore(':memory:');
  await prepare(store);
  const stop = new AbortController();
  const [here, there] = [mirrorOf(store, 'here'), mirrorOf(store, 'there')];
  const running = [here, there].map((mirror) => mirror.run(stop.signal));
  await Promise.all([here, there].map((mirror) => mirror.reached(0n, signal)));
  await use(here, there, [new GroupWriter(here), new GroupWriter(there)]);
  stop.abort();
  await Promise.all(running);
  await store.close();
}

function mirrorOf(store: Datastore, node: string): LiveMirror {
  return new LiveMirror(store, undefined, undefined, undefined, heldByNode(node));
}

function endpoint(node: string, name: string): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, namespace: 'libnetwork', labels: { role: 'web' }, annotations: { a: 'b' } },
    spec: {
      orchestrator: 'libnetwork',
      workload: 'web-1',
      node,
      endpoint: name,
      ipNetworks: [parseCidr('10.1.2.3/32')],
      profiles: ['web'],
      interfaceName: 'cali1',
    },
  };
}

const id = 'libnetwork/e1';

test('of another host a node holds what policy goes by; the whole endpoint is read when a plan wants it', () =>
  withNodes(async (here, there, [writer, other]) => {
    const whole = endpoint('here', 'e1');
    const { revision } = await writer.write(
      (draft) => draft.put('WorkloadEndpoint', id, whole),
      signal,
    );
    await there.reached(revision, signal);
    assert.deepEqual(here.get('WorkloadEndpoint', id)?.value, whole);
    const brief = there.held('WorkloadEndpoint').get(id)?.value;
    assert.deepEqual(brief?.spec.profiles, ['web']);
    assert.deepEqual(brief?.metadata.labels, { role: 'web' });
    assert.equal(brief?.metadata.annotations, undefined);
    assert.deepEqual([...there.group('WorkloadEndpoint', '10.1.2.3')], [id]);
    assert.throws(() => there.get('WorkloadEndpoint', id), MustRead);
    const { result } = await other.write((draft) => draft.get('WorkloadEndpoint', id), signal);
    assert.deepEqual(result, whole);
    // What another host changes of it is told, and it keeps what the brief does not have.
    const changed = await other.write((draft) => {
      const found = draft.get('WorkloadEndpoint', id) ?? assert.fail();
      draft.put('WorkloadEndpoint', id, { ...found, spec: { ...found.spec, profiles: ['db'] } });
    }, signal);
    await here.reached(changed.revision, signal);
    const { spec, metadata } = here.get('WorkloadEndpoint', id)?.value ?? assert.fail();
    assert.deepEqual(
      [spec.profiles, spec.workload, metadata.annotations],
      [['db'], 'web-1', { a: 'b' }],
    );
  }));

test('an endpoint that changes hosts is held whole by the one that it comes to, and in brief by the other', () =>
  withNodes(async (here, there, [writer]) => {
    await writer.write(
      (draft) => draft.put('WorkloadEndpoint', id, endpoint('here', 'e1')),
      signal,
    );
    const { revision } = await writer.write(
      (draft) => draft.put('WorkloadEndpoint', id, endpoint('there', 'e1')),
      signal,
    );
    await there.reached(revision, signal);
    assert.equal(there.get('WorkloadEndpoint', id)?.value.spec.workload, 'web-1');
    assert.throws(() => here.get('WorkloadEndpoint', id), MustRead);
    assert.equal(here.held('WorkloadEndpoint').get(id)?.value.spec.workload, undefined);
  }));

test('handles of others are not held; one that is taken to be new, and is not, is found before anything is written', () =>
  withNodes(
    async (here, _, [writer]) => {
      assert.throws(() => here.get('Handle', 'a'), MustRead);
      assert.throws(() => here.list('Handle'), MustRead);
      const count = (written: string) =>
        writer.write((draft) => {
          const handle = draft.getLikelyNew('Handle', written) ?? { block: {} };
          const block = { ...handle.block, '10.0.0.0/26': 1 };
          draft.put('Handle', written, { ...handle, block });
        }, signal);
      await count('a');
      await count('b');
      const { result } = await writer.write((draft) => {
        return ['a', 'b'].map((one) => draft.get('Handle', one)?.block);
      }, signal);
      assert.deepEqual(result, [{ '10.9.9.0/26': 1, '10.0.0.0/26': 1 }, { '10.0.0.0/26': 1 }]);
      // What this node wrote it has.
      assert.deepEqual(here.get('Handle', 'b')?.value.block, { '10.0.0.0/26': 1 });
    },
    (store) => {
      const value = JSON.stringify({ block: { '10.9.9.0/26': 1 } });
      const writes = [{ key: entryTypes.Handle.key('a'), value }];
      return store.commit({ compares: [], writes }, signal);
    },
  ));
