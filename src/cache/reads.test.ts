import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Datastore } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import type { Draft } from '../datastore/writer.ts';
import { entryTypes, type EntryKind } from '../model/kinds/index.ts';
import { nodeScope } from './cache-scope.ts';
import { GroupWriter } from './group-writer.ts';
import { followed } from './mirrored-store.fixture.ts';
import { Reads } from './reads.ts';
import { UncachedView } from './uncached-view.ts';
import type { View } from './view.ts';

const signal = AbortSignal.timeout(600_000);

/** A datastore that records the keys that are read, and runs an action before the next commit. */
class Watched {
  readonly read: string[] = [];
  beforeCommit: (() => Promise<unknown>) | undefined;
  commits = 0;

  over(store: Datastore): Datastore {
    const { read } = this;
    const commit = async (...asked: Parameters<Datastore['commit']>) => {
      const { beforeCommit } = this;
      this.beforeCommit = undefined;
      await beforeCommit?.();
      this.commits++;
      return store.commit(...asked);
    };
    return {
      endpoint: store.endpoint,
      read: (keys, stop) => {
        read.push(...keys);
        return store.read(keys, stop);
      },
      pages: (prefix, stop) => {
        read.push(`${prefix}*`);
        return store.pages(prefix, stop);
      },
      commit,
      watch: (...asked) => store.watch(...asked),
      close: () => store.close(),
    };
  }
}

async function withUncachedView(
  use: (writer: GroupWriter, watched: Watched, put: Put) => Promise<void>,
): Promise<void> {
  const store = await openSqliteStore(':memory:');
  const watched = new Watched();
  const put: Put = async (kind, id, value) => {
    const writes = [{ key: entryTypes[kind].key(id), value: value && JSON.stringify(value) }];
    await store.commit({ compares: [], writes }, signal);
  };
  await use(new GroupWriter(new UncachedView(watched.over(store))), watched, put);
  await store.close();
}

type Put = (kind: EntryKind, id: string, value: object | undefined) => Promise<void>;

const counted = (draft: Draft) => Object.keys(draft.get('Handle', 'a')?.block ?? {}).length;
const lockKey = entryTypes.ClusterInformation.key('default');

test('a plan reads each requested key and group once, and nothing else', () =>
  withUncachedView(async (writer, { read }, put) => {
    await put('Handle', 'a', { block: { '10.0.0.0/26': 1 } });
    await put('Affinity4', 'host-a/10.0.0.0/26', { state: 'confirmed' });
    await put('Affinity4', 'host-b/10.0.1.0/26', { state: 'confirmed' });
    const { result } = await writer.write((draft) => {
      const claims = [...draft.group('Affinity4', 'host-a')].map(([id]) => id);
      return { claims, handles: counted(draft) + counted(draft) };
    }, signal);
    assert.deepEqual(result, { claims: ['host-a/10.0.0.0/26'], handles: 2 });
    assert.deepEqual(read, [
      lockKey,
      '/calico/ipam/v2/host/host-a/ipv4/block/*',
      entryTypes.Handle.key('a'),
    ]);
  }));

test('keys that a plan reads ahead are read together', () =>
  withUncachedView(async (writer, watched, put) => {
    const ids = Array.from({ length: 40 }, (_, n) => `h${n}`);
    for (const id of ids) await put('Handle', id, {});
    let runs = 0;
    await writer.write((draft) => {
      runs++;
      draft.readAhead('Handle', ids);
      for (const id of ids) draft.remove('Handle', id);
    }, signal);
    // The lock, the handles, and then the plan itself.
    assert.deepEqual([runs, watched.read.length], [2, 1 + ids.length]);
  }));

for (const [what, before, after] of [
  ['changes', {}, { block: { '10.0.0.0/26': 1 } }],
  ['is created', undefined, { block: { '10.0.0.0/26': 1 } }],
  ['is removed', { block: { '10.0.0.0/26': 1 } }, undefined],
] as const) {
  test(`a plan that depends on a key that ${what} before the commit is run again`, () =>
    withUncachedView(async (writer, watched, put) => {
      await put('Handle', 'a', before);
      watched.beforeCommit = () => put('Handle', 'a', after);
      const { result } = await writer.write((draft) => {
        const seen = counted(draft);
        draft.put('Handle', 'b', { block: { '10.0.0.0/26': seen } });
        return seen;
      }, signal);
      assert.equal(result, after === undefined ? 0 : 1);
      assert.equal(watched.commits, 2);
      // The conflict has returned the value of the key.
      const key = entryTypes.Handle.key('a');
      assert.equal(watched.read.filter((one) => one === key).length, 1);
    }));
}

test('a plan that depends on the absence of other entries of a kind is run again when one is created', () =>
  withUncachedView(async (writer, watched, put) => {
    watched.beforeCommit = () => put('IPReservation', 'r', reservation('r'));
    const { result } = await writer.write((draft) => {
      const count = [...draft.entries('IPReservation')].length;
      draft.put('Handle', 'b', {});
      return count;
    }, signal);
    assert.deepEqual([result, watched.commits], [1, 2]);
  }));

test('a value that cannot be read is named with its own kind only', () =>
  withUncachedView(async (writer, _, put) => {
    await put('IPReservation', 'r', { kind: 'IPReservation' });
    await put('Handle', 'h', { block: 3 });
    const { result } = await writer.write((draft) => {
      const read = [...draft.entries('IPReservation'), ...draft.entries('Handle')].length;
      const of = (kind: 'IPReservation' | 'Handle') =>
        [...draft.unreadable(kind)].map(([id]) => id);
      return { read, reservations: of('IPReservation'), handles: of('Handle') };
    }, signal);
    assert.deepEqual(result, { read: 0, reservations: ['r'], handles: ['h'] });
  }));

const kinds = ['Handle', 'WorkloadEndpoint', 'Block4', 'Affinity4', 'IPReservation'] as const;
type ReadKind = (typeof kinds)[number];
const briefKinds = ['WorkloadEndpoint', 'Block4'] as const;
const ids: Readonly<Record<ReadKind, readonly string[]>> = {
  Handle: ['a', 'ab', 'b', 'broken', 'none'],
  WorkloadEndpoint: ['shop/a', 'shop/b', 'shopping/a', 'shop/broken', 'shop/none'],
  Block4: ['10.0.0.0/26', '10.0.0.64/26', '10.0.1.0/26', '10.0.2.0/26', '10.9.0.0/26'],
  Affinity4: ['here/10.0.0.0/26', 'here/10.0.0.64/26', 'there/10.0.1.0/26', 'there/broken'],
  IPReservation: ['r', 'broken', 'none'],
};
const groups = ['', 'here', 'there', 'shop', 'none', 'n'.repeat(64), 'e1'];

/** What a view is asked, and its answer as far as it is determined. */
const question = fc.oneof(
  fc
    .constantFrom(...kinds)
    .chain((kind) => fc.constantFrom(...ids[kind]).map((id) => ({ kind, id }))),
  fc
    .constantFrom(...kinds)
    .chain((kind) =>
      fc
        .constantFrom('', ...ids[kind].map((id) => id.slice(0, 5)))
        .map((under) => ({ kind, under })),
    ),
  // Of kinds that it does not cache, a node does not know them.
  fc
    .constantFrom<ReadKind[]>('Affinity4', 'IPReservation')
    .map((kind) => ({ kind, unreadable: true })),
  fc.constantFrom(...briefKinds).map((kind) => ({ kind, briefs: true })),
  fc.record({ kind: fc.constantFrom(...kinds), group: fc.constantFrom(...groups) }),
);
type Question = typeof question extends fc.Arbitrary<infer One> ? One : never;

function answer(view: View, asked: Question): unknown {
  if ('id' in asked) {
    const { kind, id } = asked;
    const isBrief = kind === 'WorkloadEndpoint' || kind === 'Block4';
    const brief = isBrief ? view.brief(kind, id) : undefined;
    return [view.get(kind, id), view.unreadable(kind, id)?.why, brief];
  }
  if ('under' in asked) {
    const { kind, under } = asked;
    return [...view.list(kind, under)].filter(([id]) => id.startsWith(under));
  }
  if ('unreadable' in asked) return [...view.allUnreadable(asked.kind).keys()].toSorted();
  if ('group' in asked) return [...view.group(asked.kind, asked.group)].toSorted();
  return [...view.briefs(asked.kind)].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

test('whatever was read before, a view answers as the datastore would, and reads nothing twice', async () => {
  const store = await openSqliteStore(':memory:');
  const block = (cidr: string, host: string) => ({
    cidr,
    affinity: `host:${host}`,
    allocations: Array.from({ length: 64 }, () => null),
    unallocated: Array.from({ length: 64 }, (_, ordinal) => ordinal),
    attributes: [],
  });
  const values = (kind: ReadKind, id: string): object | undefined => {
    if (id.endsWith('none') || id === '10.9.0.0/26') return undefined;
    if (id.endsWith('broken')) return { block: 3, metadata: 3 };
    const [first = '', name = ''] = id.split('/');
    if (kind === 'Handle') return { block: { '10.0.0.0/26': id.length } };
    if (kind === 'Affinity4') return { state: 'confirmed' };
    if (kind === 'IPReservation') return reservation(id);
    if (kind === 'Block4') {
      return id === '10.0.2.0/26' ? { cidr: 3 } : block(id, id < '10.0.1' ? 'here' : 'there');
    }
    return {
      kind,
      apiVersion: 'projectcalico.org/v3',
      metadata: { name, namespace: first },
      spec: {
        orchestrator: 'x',
        node: name === 'a' ? 'here' : 'there',
        endpoint: 'e1',
        interfaceName: 'cali1',
      },
    };
  };
  const writes = kinds.flatMap((kind) =>
    ids[kind].flatMap((id) => {
      const value = values(kind, id);
      const text = value && JSON.stringify(value);
      return text === undefined ? [] : [{ key: entryTypes[kind].key(id), value: text }];
    }),
  );
  await store.commit({ compares: [], writes }, signal);
  await using all = await followed(store);
  await using node = await followed(store, undefined, nodeScope('here'));
  await fc.assert(
    fc.asyncProperty(fc.array(question, { maxLength: 6 }), async (questions) => {
      const expected = questions.map((asked) => answer(all.mirror, asked));
      const watched = new Watched();
      for (const view of [
        new Reads(new UncachedView(watched.over(store))),
        new Reads(node.mirror),
      ]) {
        const answers: unknown[] = [];
        for (const asked of questions) {
          answers.push(await view.look(() => answer(view, asked), signal));
        }
        assert.deepEqual(answers, expected, JSON.stringify(questions));
        const { length } = watched.read;
        for (const [index, asked] of questions.entries()) {
          assert.deepEqual(answer(view, asked), expected[index]);
        }
        assert.equal(watched.read.length, length);
        await view.forget();
        assert.deepEqual(
          questions.map(({ kind }) => view.isReadByKey(kind, ids[kind][0] ?? '')),
          questions.map(() => false),
        );
      }
      assert.equal(new Set(watched.read).size, watched.read.length, watched.read.join('\n'));
    }),
    { numRuns: 150 },
  );
});

function reservation(name: string): object {
  return {
    kind: 'IPReservation',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { reservedCIDRs: [] },
  };
}
