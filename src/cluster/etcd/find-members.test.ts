import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCalicoError } from '../../errors/error.ts';
import type { Member, MemberStatus } from './admin.ts';
import { candidatesOf, findMembers } from './find-members.ts';

const url = (number: number) => `https://192.0.2.${number}:2379`;

test('the member of this host and its peers are asked before other hosts, and none twice', () => {
  const candidates = candidatesOf({
    known: [url(1)],
    configured: ['192.0.2.2', '192.0.2.1', '192.0.2.3'],
    hosts: ['192.0.2.1', '192.0.2.3', '2001:db8::4'],
  });
  assert.deepEqual(candidates, [url(2), url(3), 'https://[2001:db8::4]:2379']);
});

test('only a member with a leader is believed', async () => {
  const members: readonly Member[] = [
    { id: '1', name: 'a', peerUrls: [], clientUrls: [url(12)], isLearner: false },
  ];
  const working: MemberStatus = {
    version: '3.5.0',
    fileBytes: 0,
    usedBytes: 0,
    leader: '1',
    isFull: false,
  };
  const states = new Map<string, MemberStatus | string>([
    [url(2), 'connection refused'],
    [url(3), { ...working, leader: '0' }],
    [url(12), working],
  ]);
  let opened = 0;
  const find = (...candidates: readonly string[]) =>
    findMembers(candidates, async (endpoint) => {
      opened++;
      return {
        admin: {
          members: async () => (endpoint === url(12) ? members : []),
          status: async () => states.get(endpoint) ?? 'unreachable',
        },
        [Symbol.asyncDispose]: async () => {
          opened--;
        },
      };
    });
  const many = Array.from({ length: 11 }, (_, index) => url(index + 1));
  assert.deepEqual(await find(...many, url(12)), members);
  await assert.rejects(find(...many), (error) => isCalicoError(error, 'datastore/unavailable'));
  assert.equal(opened, 0, 'all connections are closed');
});
