import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inSlices, Pauses } from './slices.ts';

function work(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

/** Returns whether other work of the event loop runs before the promise is settled. */
async function letsOthersRun(act: () => Promise<void>): Promise<boolean> {
  let hasRun = false;
  const other = setImmediate(() => {
    hasRun = true;
  });
  await act();
  clearImmediate(other);
  return hasRun;
}

describe('work that others wait for', () => {
  test('steps that follow one another at once pause when they have taken long', async () => {
    const steps = (stepMs: number) => async () => {
      const pauses = new Pauses();
      for (let step = 0; step < 4; step++) {
        work(stepMs);
        await pauses.after(stepMs);
      }
    };
    assert.equal(await letsOthersRun(steps(4)), true);
    assert.equal(await letsOthersRun(steps(0)), false, 'short ones need no pause');
  });

  test('many items are processed in slices, few in one step, all in order', async () => {
    const seen: number[] = [];
    const all = Array.from({ length: 10 }, (_, index) => index);
    const slices = (itemMs: number) => () =>
      inSlices(all, {
        atOnce: 2,
        act: (some) => {
          seen.push(...some);
          work(itemMs);
        },
      });
    assert.equal(await letsOthersRun(slices(6)), true);
    assert.equal(await letsOthersRun(slices(0)), false);
    assert.deepEqual(seen, [...all, ...all]);
  });
});
