import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { endpointRequest, joinRequest, networkRequest } from './messages.ts';

const swarmId = 'z8r4k9fdsz1w3tu6f6m3b0o1x';
const id = 'ab'.repeat(32);

test('IDs of Docker and Swarm are accepted; paths, blanks and overlong texts are not', () => {
  const isTaken = (NetworkID: string) => networkRequest.safeParse({ NetworkID }).success;
  for (const good of [id, swarmId, 'n1']) assert.ok(isTaken(good), good);
  const bad = [
    '',
    '.',
    '..',
    '../../x',
    `${id}/x`,
    `${id}\n`,
    'a b',
    'a?b',
    'a#b',
    'ä',
    'a'.repeat(129),
  ];
  for (const one of bad) assert.ok(!isTaken(one), one);
});

test('any accepted ID is exactly one part of a path', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      const asked = { NetworkID: text, EndpointID: text };
      const isId =
        networkRequest.safeParse(asked).success || endpointRequest.safeParse(asked).success;
      if (isId) assert.equal(new URL(`http://h/a/${text}/b`).pathname, `/a/${text}/b`);
    }),
  );
});

test('a sandbox is an absolute path without detours', () => {
  const isTaken = (SandboxKey: string) =>
    joinRequest.safeParse({ NetworkID: id, EndpointID: id, SandboxKey, Options: {} }).success;
  const good = [
    '/var/run/docker/netns/8c1f0aa2b3c4',
    '/run/docker/netns/ingress_sbox',
    '/mnt/my disk/..netns/1',
  ];
  for (const one of good) assert.ok(isTaken(one), one);
  for (const one of ['', 'netns/1', '/a/../b', '/a/..', '/a//b', '/a/./b', '/a\0b', '/a\nb', '/'])
    assert.ok(!isTaken(one), one);
});
