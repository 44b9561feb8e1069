import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../ip/address.ts';
import { cases, inputsOf } from '../routing/bgp/bgp-cases.fixture.ts';
import { sessionsOf } from '../routing/bgp/bgp-sessions.ts';
import { Reply } from './control.ts';
import { daemonStatus, routeStatuses } from './daemon-status.ts';
import { nodeStatus } from './node-status.ts';

function linesOf(text: string) {
  const reply = new Reply();
  reply.take(`0001 BIRD 2.0.12 ready.\n${text}`);
  return reply.lines;
}

const status = linesOf(
  [
    '1000-BIRD 2.0.12',
    '1011-Router ID is 192.0.2.1',
    ' Hostname is a',
    ' Current server time is 2026-11-30 05:11:21.299',
    ' Last reboot on 2026-11-30 05:11:11.679',
    ' Last reconfiguration on 2026-11-30 05:11:12.000',
    '0013 Daemon is up and running',
    '',
  ].join('\n'),
);

const routes = linesOf(
  [
    '1007-Table master4:',
    ' 10.65.1.0/26         blackhole [blocks_v4 05:11:11.679] * (200)',
    ' 10.65.2.0/26         unicast [Mesh_192_0_2_2 05:11:12.000 from 192.0.2.2] * (100/-) [i]',
    ' \tvia 192.0.2.2 on eth0',
    '                      unicast [Global_192_0_2_9 05:11:12.000 from 192.0.2.9] (100/0) [AS65001i]',
    ' \tvia 192.0.2.9 on eth1 weight 1',
    ' \tvia 192.0.2.10 on eth2 weight 1',
    ' 0.0.0.0/0            unicast [kernel_v4 05:11:11.679] * (10)',
    ' \tvia 192.0.2.254 on eth0',
    ' 192.0.2.0/24         unicast [direct1 05:11:11.684] * (240)',
    ' \tdev eth0',
    '0000 ',
    '',
  ].join('\n'),
);

test('the state of BIRD and its routes are those that it shows', () => {
  assert.deepEqual(daemonStatus(status), {
    state: 'Ready',
    version: '2.0.12',
    routerID: '192.0.2.1',
    lastBootTime: '2026-11-30 05:11:11.679',
    lastReconfigurationTime: '2026-11-30 05:11:12.000',
  });
  assert.deepEqual(daemonStatus(undefined), { state: 'NotReady' });
  const mesh = { name: 'Mesh_192_0_2_2', kind: 'mesh', peer: parseAddress('192.0.2.2') } as const;
  const rack = {
    name: 'Global_192_0_2_9',
    kind: 'global',
    peer: parseAddress('192.0.2.9'),
  } as const;
  assert.deepEqual(routeStatuses(routes, [mesh, rack]), [
    { type: 'FIB', destination: '10.65.1.0/26', learnedFrom: { sourceType: 'Static' } },
    {
      type: 'FIB',
      destination: '10.65.2.0/26',
      learnedFrom: { sourceType: 'NodeMesh', peerIP: '192.0.2.2' },
      gateway: '192.0.2.2',
      interface: 'eth0',
    },
    {
      type: 'RIB',
      destination: '10.65.2.0/26',
      learnedFrom: { sourceType: 'BGPPeer', peerIP: '192.0.2.9' },
      gateway: '192.0.2.9',
      interface: 'eth1',
    },
    {
      type: 'FIB',
      destination: '0.0.0.0/0',
      learnedFrom: { sourceType: 'Kernel' },
      gateway: '192.0.2.254',
      interface: 'eth0',
    },
    {
      type: 'FIB',
      destination: '192.0.2.0/24',
      learnedFrom: { sourceType: 'Direct' },
      interface: 'eth0',
    },
  ]);
});

test('a status has the classes that are asked for, and counts sessions by family', () => {
  const { sessions } = sessionsOf(inputsOf(cases['dual-stack'] ?? assert.fail()));
  const since = new Date('2026-11-30T05:00:00Z');
  const facts = {
    daemon: daemonStatus(status),
    sessions,
    states: [
      {
        name: sessions.find(({ family }) => family === 4)?.name ?? '',
        state: 'Established',
        since,
        lastError: undefined,
        isRestarting: false,
        isPassive: false,
        isAtLimit: false,
        session: undefined,
        imported: 1,
        filtered: 0,
        exported: 1,
      },
    ],
    routes: { 4: routeStatuses(routes, []), 6: [] },
  };
  const now = new Date('2026-11-30T05:01:02.345Z');
  assert.deepEqual(nodeStatus(facts, ['BGP'], now), {
    lastUpdated: '2026-11-30T05:01:02Z',
    bgp: {
      numberEstablishedV4: 1,
      numberNotEstablishedV4: 0,
      numberEstablishedV6: 0,
      numberNotEstablishedV6: 1,
      peersV4: [
        {
          peerIP: '192.0.2.2',
          type: 'NodeMesh',
          state: 'Established',
          since: '2026-11-30T05:00:00.000Z',
        },
      ],
      peersV6: [{ peerIP: '2001:db8::2', type: 'NodeMesh', state: 'Idle' }],
    },
  });
  const all = nodeStatus(facts, ['Agent', 'Routes'], now);
  assert.deepEqual(Object.keys(all), ['lastUpdated', 'agent', 'routes']);
  assert.equal(all.agent?.birdV6?.version, '2.0.12');
  assert.equal(all.routes?.routesV4?.length, 5);
});
