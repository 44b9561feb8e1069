import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configuration, inputsOf, node, peer, type Case } from './bgp-cases.fixture.ts';
import { sessionRestarts } from './session-restarts.ts';

const rack = { peerIP: '192.0.2.254', asNumber: 65_001 } as const;
const start: Case = { peers: [peer('rack', rack)] };
const restarts = (now: Case, before = start) =>
  sessionRestarts(inputsOf(before), inputsOf({ ...before, ...now }));
const mesh = ['a with b', 'a with c', 'b with c'];

test('a change of timers, passwords or AS numbers restarts sessions, each of which is named once', () => {
  const restarted = (now: Case) => restarts(now).sessions.toSorted();
  assert.deepEqual(restarted({}), []);
  const ofAll = (spec: Parameters<typeof configuration>[1]) => ({
    configurations: [configuration('default', spec)],
  });
  assert.deepEqual(restarted(ofAll({ nodeMeshMaxRestartTime: '60s' })), mesh);
  const secretKeyRef = { name: 'bgp', key: 'mesh' };
  assert.deepEqual(restarted(ofAll({ nodeMeshPassword: { secretKeyRef } })), mesh);
  const withRack = ['a', 'b', 'c'].map((name) => `${name} with 192.0.2.254`);
  assert.deepEqual(restarted(ofAll({ asNumber: 64_600 })), [...mesh, ...withRack].toSorted());
  assert.deepEqual(restarted({ peers: [peer('rack', { ...rack, ttlSecurity: 1 })] }), withRack);
});

test('sessions that begin or end for good are none, and so are filters and limits', () => {
  const sessionsOf = (now: Case) => restarts(now).sessions;
  const meshOff = configuration('default', { nodeToNodeMeshEnabled: false });
  assert.deepEqual(sessionsOf({ configurations: [meshOff] }), []);
  assert.deepEqual(sessionsOf({ peers: [] }), []);
  const limit = { 'docker.projectcalico.org/max-prefixes': '10' };
  assert.deepEqual(sessionsOf({ peers: [peer('rack', rack, limit)] }), []);
  assert.deepEqual(sessionsOf({ peers: [peer('other', rack)] }), []);
});

test('another address of a node is another router ID: its other sessions start again', () => {
  const nodes = (address: string) => [
    node('a', { ipv4Address: address, ipv6Address: '2001:db8::1/64' }),
    node('b', { ipv4Address: '192.0.2.2/24', ipv6Address: '2001:db8::2/64' }),
  ];
  const before = { nodes: nodes('192.0.2.1/24') };
  const { sessions } = restarts({ nodes: nodes('192.0.2.9/24') }, before);
  assert.deepEqual(sessions, ['a with b']);
});

test('of a large mesh the sessions of some nodes are named, first those of a node that changes', () => {
  const many = (asNumber: number | undefined) =>
    Array.from({ length: 200 }, (_, index) =>
      node(`n${index}`, {
        ipv4Address: `172.16.0.${index + 1}/16`,
        ...(index === 150 && asNumber !== undefined ? { asNumber } : {}),
      }),
    );
  const { sessions, isPart } = restarts({ nodes: many(65_000) }, { nodes: many(undefined) });
  assert.equal(isPart, true);
  assert.equal(sessions.length, 199);
  assert.ok(sessions.every((one) => one.includes('n150')));
});
