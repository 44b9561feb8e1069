import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Refusals, withEach } from './apply-failure.ts';

test('a thing is tried again after a second, then half as often each time, and at least once a minute', () => {
  let now = 0;
  const refusals = new Refusals<string>(() => now);
  const triedAt: number[] = [];
  for (; now < 400_000; now += 1000) {
    if (!refusals.isDue('x')) continue;
    triedAt.push(now / 1000);
    refusals.add('x', { what: 'x' }, 'no room');
  }
  assert.deepEqual(triedAt, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]);
  assert.ok(refusals.isDue('y'));
  assert.deepEqual(refusals.failures(), [{ what: 'x', why: 'no room' }]);
  refusals.delete('x');
  assert.ok(refusals.isDue('x') && !refusals.hasDue);
});

test('of many things together those that are refused are found, and all others are done', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(400)), fc.uniqueArray(fc.nat(400)), (items, bad) => {
      const done = new Set<number>();
      const refused: number[] = [];
      let acts = 0;
      const act = (together: readonly number[]) => {
        acts++;
        // As the kernel does it: those before the first that it refuses are done.
        for (const item of together) {
          if (bad.includes(item)) throw new Error(String(item));
          done.add(item);
        }
      };
      withEach(items, act, (item) => refused.push(item));
      assert.deepEqual(
        refused,
        items.filter((item) => bad.includes(item)),
      );
      assert.deepEqual(
        [...done],
        items.filter((item) => !bad.includes(item)),
      );
      const depth = Math.ceil(Math.log2(items.length + 1)) + 1;
      assert.ok(acts <= 1 + 2 * depth * refused.length, `${acts} acts for ${refused.length}`);
    }),
  );
});
