import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listAll } from './datastore.ts';
import { openEtcdStore } from './etcd-store.ts';

/** Longer than a connection on this host takes, in milliseconds. */
const connectMs = 300;

test('a listing that is not wanted any more requests nothing, so no error is left without a caller', async () => {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const store = await openEtcdStore({ endpoints: [`http://127.0.0.1:${address.port}`] });
  // A rejection that nobody handles fails the test, and ends a daemon.
  await assert.rejects(listAll(store, '/calico/', AbortSignal.abort()), { name: 'AbortError' });
  await sleep(connectMs);
  await store.close();
  server.close();
  assert.equal(connections, 0);
});
