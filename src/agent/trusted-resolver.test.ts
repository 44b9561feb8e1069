import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import packet from 'dns-packet';
import { trustedResolver } from './trusted-resolver.ts';

test('exactly the name is resolved: one that the resolver would shorten or convert does not exist', async (t) => {
  const asked: string[] = [];
  const server = createSocket('udp4');
  t.after(() => server.close());
  server.on('message', (message, client) => {
    const { id = 0, questions = [] } = packet.decode(message);
    asked.push(...questions.map(({ name }) => name));
    const answers = questions.map(
      ({ name }) => ({ type: 'A', name, ttl: 5, data: '198.51.100.7' }) as const,
    );
    const response = packet.encode({ type: 'response', id, questions, answers });
    server.send(response, client.port, client.address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const resolve = trustedResolver([`127.0.0.1:${server.address().port}`]);
  for (const name of [
    'evil.test\0.example.com',
    String.raw`a\.dev.example.com`,
    String.raw`a\046dev.example.com`,
    '\ufffd.example.com',
    'ａ.example.com',
    'a。b.example.com',
    'a b.example.com',
    'a..example.com',
    `${'a'.repeat(64)}.example.com`,
    '',
  ]) {
    assert.equal(await resolve(name, 'A'), undefined, JSON.stringify(name));
  }
  assert.equal(asked.length, 0);
  for (const name of ['a.example.com', 'A-1_b.xn--p1ai', '-a-.example.com']) {
    assert.deepEqual(await resolve(name, 'A'), [{ address: '198.51.100.7', ttl: 5 }]);
    assert.equal(asked.at(-1)?.toLowerCase(), name.toLowerCase());
  }
});
