import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCalicoError } from '../../errors/error.ts';
import { parseServer } from './connection.ts';

test('a member is named by host, address or either with a port', () => {
  assert.deepEqual(
    ['host-1', 'host-1:99', '192.0.2.1:2381', '[2001:db8::1]:7', '2001:db8::1'].map(parseServer),
    [
      { host: 'host-1', port: 2381 },
      { host: 'host-1', port: 99 },
      { host: '192.0.2.1', port: 2381 },
      { host: '2001:db8::1', port: 7 },
      { host: '2001:db8::1', port: 2381 },
    ],
  );
  for (const text of ['', 'a b', 'host:0', 'host:99999', 'https://host-1']) {
    assert.throws(
      () => parseServer(text),
      (error) => isCalicoError(error, 'cluster/bad-server'),
    );
  }
});
