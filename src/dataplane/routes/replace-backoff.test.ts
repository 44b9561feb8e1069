import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplaceBackoff } from './replace-backoff.ts';

test('a route is written again a few times in a row, then not for a while; other routes are not affected', () => {
  let now = 0;
  const places = new ReplaceBackoff(() => now);
  assert.equal(places.mayReplace('a'), false, 'it was never ours');
  let taken = 0;
  for (now = 0; now < 100_000; now += 100) {
    places.add('a');
    if (!places.mayReplace('a')) continue;
    places.replaced('a');
    assert.equal(places.mayReplace('a'), false, 'it is ours');
    taken++;
  }
  assert.equal(taken, 50);
  places.add('b');
  assert.ok(places.mayReplace('b'));
  places.delete('b');
  assert.equal(places.mayReplace('b'), false);
});
