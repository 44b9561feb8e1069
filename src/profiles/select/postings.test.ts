import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Postings } from './postings.ts';

test('a label is indexed from its first use until its last release', () => {
  const postings = new Postings();
  assert.equal(postings.use('role'), true);
  assert.equal(postings.use('role'), false);
  postings.change('role', 'a', undefined, 'web');
  postings.release('role');
  assert.equal(postings.population({ key: 'role', value: 'web' }), 1, 'one use is left');
  postings.release('role');
  assert.equal(postings.population({ key: 'role', value: 'web' }), 0);
  assert.equal(postings.use('role'), true);
});

test('an item is listed by its current value only', () => {
  const postings = new Postings();
  postings.use('role');
  postings.change('role', 'a', undefined, 'web');
  postings.change('role', 'b', undefined, 'web');
  postings.change('role', 'a', 'web', 'db');
  const at = (value: string | undefined) => ({
    ids: [...postings.ids({ key: 'role', value })].toSorted(),
    population: postings.population({ key: 'role', value }),
  });
  assert.deepEqual(at('web'), { ids: ['b'], population: 1 });
  assert.deepEqual(at('db'), { ids: ['a'], population: 1 });
  assert.deepEqual(at(undefined), { ids: ['a', 'b'], population: 2 });
  postings.change('role', 'a', 'db', undefined);
  assert.deepEqual(at(undefined), { ids: ['b'], population: 1 });
});
