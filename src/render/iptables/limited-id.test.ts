import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitedId } from './limited-id.ts';

test('names that are too long, or look like hashed ones, are hashed as in Calico', () => {
  assert.equal(limitedId('felix', '12345678910', 13), 'felix_Y2QCZIS');
  assert.equal(limitedId('felix', '_2345', 10), 'felix_kMQI');
  assert.equal(limitedId('cali-pri-', 'web', 28), 'cali-pri-web');
});

test('a name that iptables-restore could read as something else is hashed', () => {
  for (const name of ['a b', 'x\n-A INPUT -j ACCEPT', '"', 'ä', "'"]) {
    assert.match(limitedId('cali-pri-', name, 28), /^cali-pri-_[A-Za-z0-9_-]{18}$/);
  }
  assert.equal(limitedId('cali-pri-', 'kns.a-b_c,d', 28), 'cali-pri-kns.a-b_c,d');
});
