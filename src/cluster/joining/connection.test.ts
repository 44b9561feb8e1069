import assert from 'node:assert/strict';
import { test } from 'node:test';
import { once } from 'node:events';
import { createServer } from 'node:https';
import { isCalicoError } from '../../errors/error.ts';
import { createAuthority } from '../pki/authority.ts';
import { issueKeyPair } from '../pki/key-pair.fixture.ts';
import { parseServer, sendPatiently } from './connection.ts';
import { emptyResponse } from './protocol.ts';

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

test('a member that restarts, or whose etcd does, is asked again; one that rejects is not', async () => {
  const now = new Date();
  const authority = await createAuthority(now);
  const names = ['127.0.0.1'];
  const own = await issueKeyPair(authority, { usage: 'server', commonName: 'etcd', names }, now);
  const away = {
    error: 'datastore https://192.0.2.1 is unavailable',
    code: 'datastore/unavailable',
  };
  const rejected = {
    error: 'the cluster does not know this token',
    code: 'cluster/token-rejected',
  };
  const answers: [number, object][] = [
    // Of the framework, while it is being closed.
    [503, { error: 'Service Unavailable', message: 'Service Unavailable', statusCode: 503 }],
    [503, away],
    [200, {}],
    [403, rejected],
  ];
  const server = createServer({ cert: own.certificate, key: own.key }, (_request, response) => {
    const [status, body] = answers.shift() ?? [500, {}];
    response.writeHead(status).end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    const ask = () =>
      sendPatiently(
        { host: '127.0.0.1', port: address.port },
        {
          authority: authority.certificate,
          proof: { token: { id: 'x', secret: 'y' }, join: 'z' },
          path: '/x',
          body: {},
          response: emptyResponse,
        },
      );
    assert.deepEqual(await ask(), {});
    assert.equal(answers.length, 1);
    await assert.rejects(ask, (error) => isCalicoError(error, 'cluster/rejected'));
    assert.equal(answers.length, 0);
  } finally {
    server.close();
  }
});
