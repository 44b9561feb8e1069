import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitedId } from './limited-id.ts';

test('names that are too long, or could be taken for hashed ones, are hashed as Calico does', () => {
  assert.equal(limitedId('felix', '12345678910', 13), 'felix_Y2QCZIS');
  assert.equal(limitedId('felix', '_2345', 10), 'felix_kMQI');
  assert.equal(limitedId('cali-pri-', 'web', 28), 'cali-pri-web');
});
