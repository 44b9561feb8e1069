import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CalicoError } from '../errors/error.ts';
import { writeInSteps } from './steps.ts';

test('exactly the bad ones of many items fail, and no other is written twice', () =>
  fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 200 }),
      fc.uniqueArray(fc.integer({ min: 0, max: 199 }), { maxLength: 5 }),
      fc.integer({ min: 1, max: 60 }),
      async (count, bad, most) => {
        const items = Array.from({ length: count }, (_, index) => index);
        const written: number[] = [];
        const failed = await writeInSteps(items, async (step) => {
          if (step.length > most) throw new CalicoError('datastore/too-large', { what: '' });
          if (step.some((item) => bad.includes(item))) throw new Error('bad');
          written.push(...step);
        });
        const expected = items.filter((item) => bad.includes(item));
        assert.deepEqual(
          failed.map(({ item }) => item),
          expected,
        );
        assert.deepEqual(
          written,
          items.filter((item) => !bad.includes(item)),
        );
      },
    ),
  ));

test('if the datastore is unavailable, the rest fails immediately', async () => {
  const items = Array.from({ length: 150 }, (_, index) => index);
  let calls = 0;
  const failed = await writeInSteps(items, async () => {
    calls++;
    if (calls > 1) throw new CalicoError('datastore/unavailable', { endpoint: 'x', why: 'away' });
  });
  assert.equal(calls, 2);
  assert.deepEqual(
    failed.map(({ item }) => item),
    items.slice(40),
  );
});
