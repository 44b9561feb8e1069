import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LostPlaces } from './lost-places.ts';

test('a place is taken back some times in a row, then no more for a while; others are not concerned', () => {
  let now = 0;
  const places = new LostPlaces(() => now);
  assert.equal(places.mayTakeBack('a'), false, 'it was never ours');
  let taken = 0;
  for (now = 0; now < 100_000; now += 100) {
    places.add('a');
    if (!places.mayTakeBack('a')) continue;
    places.isBack('a');
    assert.equal(places.mayTakeBack('a'), false, 'it is ours');
    taken++;
  }
  assert.equal(taken, 50);
  places.add('b');
  assert.ok(places.mayTakeBack('b'));
  places.delete('b');
  assert.equal(places.mayTakeBack('b'), false);
});
