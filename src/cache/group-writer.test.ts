import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { CalicoError, isCalicoError } from '../errors/error.ts';
import type { Handle } from '../model/kinds/handle.ts';
import { nodeScope } from './cache-scope.ts';
import { GroupWriter } from './group-writer.ts';
import { LiveMirror } from './live-mirror.ts';
import { followed } from './mirrored-store.fixture.ts';
import { raced, type Race } from './raced-store.fixture.ts';
import { UncachedView } from './uncached-view.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import type { Draft } from '../datastore/writer.ts';

const signal = AbortSignal.timeout(600_000);

async function withWriters(
  count: number,
  use: (writers: readonly GroupWriter[], mirrors: readonly LiveMirror[]) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'calico-writer-'));
  const stop = new AbortController();
  const stores = await Promise.all(
    Array.from({ length: count }, () => openSqliteStore(join(folder, 'calico.db'))),
  );
  const mirrors = stores.map((store) => new LiveMirror(store));
  const running = mirrors.map((mirror) => mirror.run(stop.signal));
  try {
    await Promise.all(mirrors.map((mirror) => mirror.reached(0n, signal)));
    await use(
      mirrors.map((mirror) => new GroupWriter(mirror)),
      mirrors,
    );
  } finally {
    stop.abort();
    await Promise.all(running);
    await Promise.all(stores.map((store) => store.close()));
    await rm(folder, { recursive: true });
  }
}

function increment(draft: Draft): number {
  const count = countOf(draft.get('Handle', 'counter')) + 1;
  draft.put('Handle', 'counter', { block: { '10.0.0.0/26': count } });
  return count;
}

function countOf(handle: Handle | undefined): number {
  return handle?.block?.['10.0.0.0/26'] ?? 0;
}

test('no increment of writers in different processes is lost, and each caller gets its own result', () =>
  withWriters(3, async (writers, mirrors) => {
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        (writers[index % 3] ?? assert.fail()).write(increment, signal),
      ),
    );
    const results = answers.map(({ result }) => result).toSorted((a, b) => a - b);
    assert.deepEqual(
      results,
      Array.from({ length: 60 }, (_, index) => index + 1),
    );
    const mirror = mirrors[0] ?? assert.fail();
    await mirror.reached(
      answers.map(({ revision }) => revision).reduce((a, b) => (a > b ? a : b)),
      signal,
    );
    assert.equal(countOf(mirror.get('Handle', 'counter')?.value), 60);
  }));

test('concurrent callers share a transaction', () =>
  withWriters(1, async ([writer = assert.fail()]) => {
    await Promise.all(Array.from({ length: 50 }, () => writer.write(increment, signal)));
    assert.equal(writer.transactions, 1);
  }));

test('a plan that throws fails alone and writes nothing', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    const failing = writer.write((draft) => {
      draft.put('Handle', 'mine', {});
      throw new Error('no');
    }, signal);
    const good = writer.write(increment, signal);
    await assert.rejects(failing, /no/);
    await good;
    assert.equal(mirror.get('Handle', 'mine'), undefined);
    assert.equal(countOf(mirror.get('Handle', 'counter')?.value), 1);
  }));

test('more plans than fit one transaction are committed in several', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    await Promise.all(
      Array.from({ length: 250 }, (_, index) =>
        writer.write((draft) => draft.put('Handle', `h${index}`, {}), signal),
      ),
    );
    assert.equal(mirror.list('Handle').size, 250);
    assert.ok(writer.transactions >= 3);
  }));

test('a value that cannot be read is reported, and overwriting it is rejected', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    const key = '/calico/ipam/v2/handle/broken';
    await mirror.datastore.commit({ compares: [], writes: [{ key, value: '{' }] }, signal);
    await assert.rejects(
      writer.write((draft) => draft.put('Handle', 'broken', {}), signal),
      { code: 'datastore/corrupt' },
    );
    assert.ok(mirror.unreadableValues().has(key));
  }));

test('a plan that is too large for a transaction is rejected before anything is written; other plans succeed', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    const put = (draft: Draft, count: number, name: string) => {
      for (let index = 0; index < count; index++) draft.put('Handle', `${name}${index}`, {});
    };
    const [most, tooMany, small] = await Promise.allSettled([
      writer.write((draft) => put(draft, 127, 'most'), signal),
      writer.write((draft) => put(draft, 128, 'many'), signal),
      writer.write((draft) => put(draft, 1, 'small'), signal),
    ]);
    assert.deepEqual([most?.status, small?.status], ['fulfilled', 'fulfilled']);
    const said = tooMany?.status === 'rejected' ? String(tooMany.reason) : '';
    assert.match(said, /\(129 keys of at most 128\), nothing was written/);
    assert.equal(mirror.list('Handle').size, 128);
  }));

test('plans whose values are too large for one transaction are committed in several', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    const big = (kilobytes: number): Handle => ({ block: { ['b'.repeat(kilobytes * 1000)]: 1 } });
    const written = [1, 2, 3, 4, 5, 6, 7, 8].map((id) =>
      writer.write((draft) => draft.put('Handle', `h${id}`, big(600)), signal),
    );
    const alone = writer.write((draft) => draft.put('Handle', 'alone', big(1700)), signal);
    await assert.rejects(alone, { code: 'datastore/too-large' });
    await Promise.all(written);
    assert.equal(mirror.list('Handle').size, 8);
    assert.equal(writer.transactions, 4);
  }));

test('a plan of writeWithNext is committed with the next plan, before it, or alone after its time limit', () =>
  withWriters(1, async ([writer = assert.fail()]) => {
    const order: string[] = [];
    const note = (name: string) => (draft: Draft) => {
      order.push(name);
      increment(draft);
    };
    const before = writer.transactions;
    const waiting = writer.writeWithNext(note('waits'), signal, 600_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(writer.transactions, before);
    await Promise.all([waiting, writer.write(note('comes'), signal)]);
    assert.equal(writer.transactions, before + 1);
    assert.deepEqual(order, ['waits', 'comes']);
    await writer.writeWithNext(note('alone'), signal, 1);
    assert.equal(writer.transactions, before + 2);
  }));

test('a writer that loses to faster ones again and again is not refused within seconds', () =>
  withWriters(1, async ([fast = assert.fail()], [mirror = assert.fail()]) => {
    const race: Race = { beforeCommit: undefined };
    const slow = new GroupWriter(new UncachedView(raced(mirror.datastore, race)));
    let tried = 0;
    const { result } = await slow.write((draft) => {
      if (++tried <= 50) race.beforeCommit = () => fast.write(increment, signal);
      return increment(draft);
    }, signal);
    assert.equal(result, tried - 1);
  }));

for (const [what, prefix, plan, race] of [
  ['a key', '/calico/ipam/v2/handle/counter', increment, increment],
  [
    'the absence of new keys',
    '/calico/resources/v3/projectcalico.org/ipreservations/',
    (draft: Draft) => {
      draft.put('Handle', 'h', {
        block: { '10.0.0.0/26': [...draft.entries('IPReservation')].length },
      });
    },
    (draft: Draft) => {
      const name = `r${[...draft.entries('IPReservation')].length}`;
      draft.put('IPReservation', name, {
        kind: 'IPReservation',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec: { reservedCIDRs: [] },
      });
    },
  ],
] as const) {
  test(`a write that depends on ${what} and has lost for ten seconds, thirty times at least, fails and names it`, () =>
    withWriters(1, async ([fast = assert.fail()], [mirror = assert.fail()]) => {
      let seconds = 0;
      const clock = mock.method(performance, 'now', () => 1000 * seconds);
      try {
        const raceOf: Race = { beforeCommit: undefined };
        const slow = new GroupWriter(new UncachedView(raced(mirror.datastore, raceOf)));
        let tried = 0;
        const lost = slow.write((draft) => {
          // The plan runs once more after each read.
          raceOf.beforeCommit = () => {
            tried++;
            seconds += tried === 1 ? 0 : 0.3;
            return fast.write<unknown>(race, signal);
          };
          plan(draft);
        }, signal);
        await assert.rejects(lost, (error: unknown) => {
          assert.ok(isCalicoError(error, 'datastore/contended'), String(error));
          assert.match(String(error), new RegExp(`write ${prefix}`));
          return true;
        });
        assert.ok(tried >= 30 && seconds >= 10, `${tried} times, ${seconds} s`);
        assert.equal(mirror.get('Handle', 'h'), undefined);
      } finally {
        clock.mock.restore();
      }
    }));
}

test('plans that cannot be read for fail, and those of the same group that need no reading succeed', () =>
  withWriters(1, async (_, [mirror = assert.fail()]) => {
    const { datastore } = mirror;
    await using node = await followed(
      {
        ...raced(datastore, { beforeCommit: undefined }),
        read: async () => {
          throw new CalicoError('datastore/unavailable', { endpoint: 'x', why: 'broken' });
        },
        close: async () => undefined,
      },
      undefined,
      nodeScope('here'),
    );
    const writer = new GroupWriter(node.mirror);
    const [failed, good] = await Promise.allSettled([
      writer.write(increment, signal),
      writer.write((draft) => [...draft.entries('IPPool')].length, signal),
    ]);
    assert.equal(failed.status, 'rejected');
    assert.match(String(failed.status === 'rejected' && failed.reason), /broken/);
    assert.deepEqual(good.status === 'fulfilled' && good.value.result, 0);
  }));

test('plans wait while the writer is paused, after those in progress', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    const first = writer.write(increment, signal);
    await new Promise(setImmediate);
    const resume = await writer.pause();
    assert.equal(countOf(mirror.get('Handle', 'counter')?.value), 1);
    let isWritten = false;
    const second = writer.write(increment, signal).then(() => (isWritten = true));
    await first;
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(isWritten, false);
    resume();
    await second;
    await mirror.reached((await writer.write(() => undefined, signal)).revision, signal);
    assert.equal(countOf(mirror.get('Handle', 'counter')?.value), 2);
  }));

test('a caller that has given up writes nothing', () =>
  withWriters(1, async ([writer = assert.fail()], [mirror = assert.fail()]) => {
    const reason = new Error('it took too long');
    await assert.rejects(writer.write(increment, AbortSignal.abort(reason)), reason);
    assert.equal(mirror.get('Handle', 'counter'), undefined);
  }));
