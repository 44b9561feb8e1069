import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs, orAborted, pause, within } from './deadline.ts';

test('orAborted settles as the promise does, unless the signal is aborted first', async () => {
  const stop = new AbortController();
  assert.equal(await orAborted(Promise.resolve(1), stop.signal), 1);
  await assert.rejects(orAborted(Promise.reject(new Error('own')), stop.signal), /^Error: own$/);
  const waiting = orAborted(new Promise(() => {}), stop.signal);
  stop.abort(new Error('enough'));
  await assert.rejects(waiting, /^Error: enough$/);
});

test('orAborted handles the rejection of an abandoned promise, even if the signal was aborted from the start', async () => {
  const unheard: unknown[] = [];
  const note = (reason: unknown) => unheard.push(reason);
  process.on('unhandledRejection', note);
  try {
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error('late')), 5));
    const before = AbortSignal.abort(new Error('enough'));
    await assert.rejects(orAborted(late, before), /^Error: enough$/);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(unheard, []);
  } finally {
    process.off('unhandledRejection', note);
  }
});

test('an action has a time limit, and its signal is not aborted if it ended before', async () => {
  const never = (signal: AbortSignal) => orAborted(new Promise(() => {}), signal);
  await assert.rejects(within(5, never), { name: 'TimeoutError' });
  let given: AbortSignal | undefined;
  const quick = async (signal: AbortSignal) => {
    given = signal;
    return 'done';
  };
  assert.equal(await within(5, quick), 'done');
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(given?.aborted, false);
});

test('delays double up to the maximum', () => {
  const delays = backoffMs(100, 500);
  assert.deepEqual(
    Array.from({ length: 5 }, () => delays.next().value),
    [100, 200, 400, 500, 500],
  );
});

test('a pause ends early and without an error when the signal is aborted', async () => {
  const started = performance.now();
  await pause(60_000, AbortSignal.timeout(5));
  assert.ok(performance.now() - started < 30_000);
});
