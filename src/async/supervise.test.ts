import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { pause } from './deadline.ts';
import { Supervisor, type WorkFailure } from './supervise.ts';

function supervised(): { readonly supervisor: Supervisor; readonly told: WorkFailure[] } {
  const told: WorkFailure[] = [];
  return {
    supervisor: new Supervisor({
      onFailure: (failure) => told.push(failure),
      waits: (error) => String(error) === 'Error: away',
    }),
    told,
  };
}

test('a loop that throws or ends is restarted until the signal is aborted, and each failure is reported', async () => {
  const { supervisor, told } = supervised();
  const stop = new AbortController();
  let begun = 0;
  const third = Promise.withResolvers<void>();
  const kept = supervisor.keep(
    supervisor.work('loop'),
    async () => {
      begun++;
      if (begun === 1) throw new Error('first');
      if (begun < 3) return;
      third.resolve();
      await pause(60_000, stop.signal);
    },
    stop.signal,
  );
  await third.promise;
  assert.deepEqual(
    told.map(({ name, error, inARow }) => [name, String(error), inARow]),
    [
      ['loop', 'Error: first', 1],
      ['loop', 'Error: it ended by itself', 2],
    ],
  );
  stop.abort();
  await kept;
  assert.equal(begun, 3);
  assert.equal(told.length, 2, 'the end that was asked for is no failure');
});

test('it is restarted after growing pauses', async () => {
  const { supervisor } = supervised();
  const stop = new AbortController();
  let begun = 0;
  const loop = async () => {
    begun++;
    throw new Error('always');
  };
  const kept = supervisor.keep(supervisor.work('loop'), loop, stop.signal);
  // Without a pause it would restart thousands of times; with constant ones of 0.1 s, ten times.
  await sleep(1000);
  stop.abort();
  await kept;
  assert.ok(begun >= 2 && begun <= 5, `it was begun ${begun} times`);
});

test('failures in a row are reset by a success; the total is not', () => {
  const { supervisor } = supervised();
  const work = supervisor.work('loop');
  const state = () => {
    const { failures, inARow, last } = work.report();
    return [failures, inARow, last?.why];
  };
  work.failed(new Error('once'));
  work.failed(new Error('twice'));
  assert.deepEqual(state(), [2, 2, 'twice']);
  work.succeeded();
  assert.deepEqual(state(), [2, 0, undefined]);
  work.failed(new Error('again'));
  assert.deepEqual(state(), [3, 1, 'again']);
});

test('work that waits for another program has not failed, and reports what it waits for', () => {
  const { supervisor, told } = supervised();
  const work = supervisor.work('loop');
  for (let times = 0; times < 3; times++) work.failed(new Error('away'));
  const { failures, inARow, last } = work.report();
  assert.deepEqual([failures, inARow, last?.why, last?.waits], [0, 0, 'away', true]);
  assert.deepEqual(
    told.map(({ waits }) => waits),
    [true, true, true],
  );
});

test('an exception of a handler is reported and its effects recovered; an exception of the recovery is reported too', () => {
  const { supervisor, told } = supervised();
  const work = supervisor.work('handler');
  let mended = 0;
  work.guard(
    () => undefined,
    () => mended++,
  );
  assert.equal(mended, 0);
  const fail = () => {
    throw new Error('handler');
  };
  work.guard(fail, () => mended++);
  assert.equal(mended, 1);
  work.guard(fail, fail);
  assert.equal(told.length, 3);
});

test('work that makes no progress hangs; idle work, or work that may be silent, does not', async () => {
  const { supervisor } = supervised();
  const [busy, resting, patient] = ['busy', 'resting', 'patient'].map((name) =>
    supervisor.work(name, name === 'patient' ? {} : { maxSilentMs: 1500 }),
  );
  for (const work of [busy, resting, patient]) work?.turned();
  resting?.rests();
  assert.deepEqual(supervisor.hanging(), []);
  await sleep(1600);
  assert.deepEqual(supervisor.hanging(), ['busy']);
  busy?.turned();
  assert.deepEqual(supervisor.hanging(), []);
});
