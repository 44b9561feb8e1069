import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inBackground } from '../async/background.fixture.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import type { Draft } from '../datastore/writer.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { Block } from '../model/kinds/block.ts';
import { entryTypes } from '../model/kinds/index.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { GroupWriter } from './group-writer.ts';
import { nodeScope } from './cache-scope.ts';
import { LiveMirror } from './live-mirror.ts';
import { raced, type Race } from './raced-store.fixture.ts';
import { MustRead } from './view.ts';

const signal = AbortSignal.timeout(600_000);

/** Two nodes on one datastore, each with a cache of its scope. */
async function withNodes(
  use: (
    here: LiveMirror,
    there: LiveMirror,
    writers: readonly [GroupWriter, GroupWriter],
    race: Race,
  ) => Promise<void>,
  prepare: (store: Datastore) => Promise<unknown> = () => Promise.resolve(),
): Promise<void> {
  const store = await openSqliteStore(':memory:');
  await prepare(store);
  const race: Race = { beforeCommit: undefined };
  const [here, there] = [mirrorOf(store, 'here'), mirrorOf(raced(store, race), 'there')];
  await using running = inBackground((stop) => Promise.all([here.run(stop), there.run(stop)]));
  await Promise.all([here, there].map((mirror) => mirror.reached(0n, signal)));
  await use(here, there, [new GroupWriter(here), new GroupWriter(there)], race);
  await running.stop();
  await store.close();
}

function mirrorOf(store: Datastore, node: string): LiveMirror {
  return new LiveMirror(store, undefined, undefined, undefined, nodeScope(node));
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

test('a node caches the policy fields of endpoints of other hosts; the whole endpoint is read when a plan needs it', () =>
  withNodes(async (here, there, [writer, other]) => {
    const whole = endpoint('here', 'e1');
    const { revision } = await writer.write(
      (draft) => draft.put('WorkloadEndpoint', id, whole),
      signal,
    );
    await there.reached(revision, signal);
    assert.deepEqual(here.get('WorkloadEndpoint', id)?.value, whole);
    assert.deepEqual(there.brief('WorkloadEndpoint', id), {
      scope: { namespace: 'libnetwork' },
      node: 'here',
      nets: ['10.1.2.3/32'],
      prefixes: [],
      labels: { role: 'web' },
      profiles: ['web'],
      ports: [],
      aliases: [],
    });
    assert.deepEqual([...there.briefs('WorkloadEndpoint')].length, 1);
    assert.throws(() => there.list('WorkloadEndpoint'), MustRead);
    assert.deepEqual([...there.group('WorkloadEndpoint', '10.1.2.3')], [id]);
    assert.throws(() => there.get('WorkloadEndpoint', id), MustRead);
    const { result } = await other.write((draft) => draft.get('WorkloadEndpoint', id), signal);
    assert.deepEqual(result, whole);
    // A change by another host is reported, and fields that the brief does not have are kept.
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

test('an endpoint that changes hosts is cached whole by its new host, and in brief by the other', () =>
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
    assert.equal(here.brief('WorkloadEndpoint', id)?.node, 'there');
    assert.deepEqual(
      [here, there].map((mirror) => mirror.cached('WorkloadEndpoint').size),
      [0, 1],
    );
  }));

test('handles of other hosts are not cached; an existing handle assumed to be new is found before anything is written', () =>
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
      // This node has what it wrote.
      assert.deepEqual(here.get('Handle', 'b')?.value.block, { '10.0.0.0/26': 1 });
    },
    (store) => {
      const value = JSON.stringify({ block: { '10.9.9.0/26': 1 } });
      const writes = [{ key: entryTypes.Handle.key('a'), value }];
      return store.commit({ compares: [], writes }, signal);
    },
  ));

const cidr = parseCidr('10.1.2.0/29');

/** Returns a block of a host whose first addresses are allocated to hosts under handles. */
function claimed(
  host: string,
  ...holders: readonly (readonly [handle: string, node: string])[]
): Block {
  const ordinals = Array.from({ length: 8 }, (_, ordinal) => ordinal);
  return {
    cidr,
    affinity: `host:${host}`,
    allocations: ordinals.map((ordinal) => (ordinal < holders.length ? ordinal : null)),
    unallocated: ordinals.slice(holders.length),
    attributes: holders.map(([handle_id, node]) => ({ handle_id, secondary: { node } })),
    sequenceNumber: 1_787_392_800_000_000_000n,
  };
}

test('a block of another host is cached in brief, and whole if an address of it belongs to this host', () =>
  withNodes(async (here, there, [writer, other]) => {
    const put = async (block: Block) => {
      const { revision } = await writer.write((draft) => draft.put('Block4', cidr, block), signal);
      await there.reached(revision, signal);
    };
    const events: string[] = [];
    there.subscribe(({ changes, briefs }) => {
      for (const { kind, now } of changes)
        events.push(`${kind} ${now === undefined ? 'removed' : 'whole'}`);
      for (const { kind, brief } of briefs)
        events.push(`${kind} ${brief === undefined ? 'removed' : 'brief'}`);
    });
    await put(claimed('here'));
    assert.deepEqual(here.get('Block4', cidr)?.value, claimed('here'));
    assert.throws(() => there.get('Block4', cidr), MustRead);
    assert.equal(there.brief('Block4', cidr)?.host, 'here');
    assert.equal(there.brief('Block4', parseCidr('10.1.3.0/29')), undefined);
    assert.equal(there.get('Block4', '10.1.3.0/29'), undefined);
    const read = await other.write((draft) => draft.get('Block4', cidr), signal);
    assert.deepEqual(read.result, claimed('here'));
    // A change that is not in the brief, here of an address's handle, is not reported.
    await put(claimed('here', ['h1', 'here']));
    await put(claimed('here', ['h2', 'here']));
    assert.deepEqual(events, ['Block4 brief', 'Block4 brief']);
    // The other host borrows one of its addresses.
    await put(claimed('here', ['h1', 'here'], ['h3', 'there']));
    assert.equal(there.get('Block4', cidr)?.value.attributes?.length, 2);
    await put(claimed('here', ['h1', 'here']));
    assert.throws(() => there.get('Block4', cidr), MustRead);
    await writer.write((draft) => draft.remove('Block4', cidr), signal);
    assert.equal(
      (await other.write((draft) => draft.get('Block4', cidr), signal)).result,
      undefined,
    );
    assert.equal(there.brief('Block4', cidr), undefined);
    assert.deepEqual(events.slice(2), [
      'Block4 whole',
      'Block4 removed',
      'Block4 brief',
      'Block4 removed',
    ]);
  }));

test('a commit compares the blocks and endpoints of other hosts that its plan has read', () =>
  withNodes(async (_, there, [writer, other], race) => {
    const { revision } = await writer.write((draft) => {
      draft.put('Block4', cidr, claimed('here'));
      draft.put('WorkloadEndpoint', id, endpoint('here', 'e1'));
    }, signal);
    await there.reached(revision, signal);
    for (const [what, look, change] of [
      [
        'a block',
        (draft: Draft) => draft.get('Block4', cidr)?.affinity,
        (draft: Draft) => draft.put('Block4', cidr, claimed('elsewhere')),
      ],
      [
        'an endpoint found by its address',
        (draft: Draft) =>
          [...draft.group('WorkloadEndpoint', '10.1.2.3')].map(([, { spec }]) => spec.workload),
        (draft: Draft) => draft.remove('WorkloadEndpoint', id),
      ],
    ] as const) {
      race.beforeCommit = () => writer.write(change, signal);
      const seen: unknown[] = [];
      await other.write((draft) => {
        seen.push(look(draft));
        draft.put('Handle', `h ${what}`, {});
      }, signal);
      assert.notDeepEqual(seen.at(-1), seen[0], `the plan is run again when ${what} changes`);
    }
  }));
