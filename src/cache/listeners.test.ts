import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { inBackground } from '../async/background.fixture.ts';
import { Supervisor } from '../async/supervise.ts';
import { GroupWriter } from './group-writer.ts';
import { LiveMirror } from './live-mirror.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';

const signal = AbortSignal.timeout(600_000);

test('a listener that throws on one object gets all others, stops no other listener, and is notified of it again later', async () => {
  const supervisor = new Supervisor({ onFailure: () => undefined });
  const work = supervisor.work('mirror listeners');
  const store = await openSqliteStore(':memory:');
  const mirror = new LiveMirror(store, undefined, work);
  let isBad = true;
  const taken = new Map<string, unknown>();
  const other: string[] = [];
  mirror.subscribe(({ changes }) => {
    for (const { kind, id, now } of changes) {
      if (kind !== 'Handle') continue;
      if (id === 'bad' && isBad) throw new Error('cannot take it');
      taken.set(id, now?.value);
    }
  });
  mirror.subscribe(({ changes }) => {
    other.push(...changes.map(({ id }) => id));
  });
  await using running = inBackground((stop) => mirror.run(stop));
  await mirror.reached(0n, signal);
  const writer = new GroupWriter(mirror);
  const put = (...ids: readonly string[]) =>
    writer.write((draft) => {
      for (const id of ids) draft.put('Handle', id, { block: { [`10.0.0.0/26`]: ids.length } });
    }, signal);

  await put('a', 'bad', 'c');
  assert.deepEqual([...taken.keys()].toSorted(), ['a', 'c']);
  assert.deepEqual(other.toSorted(), ['a', 'bad', 'c']);
  await put('d');
  assert.deepEqual([...taken.keys()].toSorted(), ['a', 'c', 'd']);
  // Only the newest state is retried.
  await put('bad');
  assert.ok(work.report().inARow >= 3);
  isBad = false;
  while (!taken.has('bad')) await sleep(20);
  assert.deepEqual(taken.get('bad'), { block: { '10.0.0.0/26': 1 } });
  assert.equal(work.report().inARow, 0);
  await running.stop();
  await store.close();
});
