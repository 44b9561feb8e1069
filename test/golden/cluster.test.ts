import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statusText } from '../../src/cli/cluster/cluster-member-commands.ts';
import { clusterState } from '../../src/cluster/cluster-status.ts';
import type { ObservedMember } from '../../src/cluster/etcd/observed-members.ts';
import type { ClusterHost } from '../../src/cluster/records.ts';
import { clusterPaths } from '../../src/cluster/cluster-file.ts';
import { configurationText, unitText } from '../../src/cluster/etcd/configuration.ts';
import { golden } from './golden.ts';

const paths = clusterPaths({ datastoreFile: '/var/lib/calico/calico.db' });

test('the configuration of etcd on the second of three members', () => {
  golden(
    'etcd-configuration',
    configurationText(
      {
        name: 'host-2',
        address: '2001:db8::12',
        cluster: '5d3cf48e-9d3c-4f5a-8c3c-2b1f6f6d1a2b',
        state: 'existing',
        members: [
          { name: 'host-1', peerUrl: 'https://[2001:db8::11]:2380' },
          { name: 'host-2', peerUrl: 'https://[2001:db8::12]:2380' },
        ],
      },
      paths,
    ),
  );
});

test('the unit of etcd', () => {
  golden('etcd-unit', unitText(paths));
});

const member = (
  number: number,
  status: ObservedMember['status'],
  isLearner = false,
): ObservedMember => ({
  member: {
    id: String(number),
    name: `host-${number}`,
    peerUrls: [`https://192.0.2.1${number}:2380`],
    clientUrls: [`https://192.0.2.1${number}:2379`],
    isLearner,
  },
  status,
  host: host(number, { wanted: 'member' }),
});

const running = (leader: string) => ({
  version: '3.5.16',
  fileBytes: 12 << 20,
  usedBytes: 6 << 20,
  leader,
  isFull: false,
});

function host(
  number: number,
  record: Partial<ClusterHost['record']>,
  report?: ClusterHost['report'],
): ClusterHost {
  return {
    node: `host-${number}`,
    record: {
      address: `192.0.2.1${number}`,
      joined: `2026-11-0${number}`,
      wanted: 'client',
      attempt: 0,
      ...record,
    },
    report,
  };
}

test('the status of a cluster of five hosts, one of whose members is lost', () => {
  const state = clusterState({
    uid: '5d3cf48e-9d3c-4f5a-8c3c-2b1f6f6d1a2b',
    members: [
      member(1, running('1')),
      member(2, running('1')),
      member(3, '14 UNAVAILABLE: no connection'),
    ],
    records: {
      settings: { members: 3 },
      hosts: [
        host(1, { wanted: 'member' }),
        host(2, { wanted: 'member' }),
        host(3, { wanted: 'member' }),
        host(4, {}, { address: '192.0.2.14', etcd: { version: '3.4.23' } }),
        host(5, { onlyClient: true }, { address: '192.0.2.15', etcd: { version: '3.5.16' } }),
      ],
    },
    live: new Set(['host-1', 'host-2', 'host-4']),
    certificates: [
      { name: 'ca.crt', days: 3600 },
      { name: 'node.crt', days: 12 },
    ],
  });
  assert.equal(state.isHealthy, false);
  golden('cluster-status', statusText('5d3cf48e-9d3c-4f5a-8c3c-2b1f6f6d1a2b', state));
});

test('the status of the first host of a cluster, and of one without a quorum', () => {
  const certificates = [{ name: 'ca.crt', days: 3649 }];
  const first = clusterState({
    uid: '1',
    members: [member(1, running('1'))],
    records: { settings: { members: 3 }, hosts: [host(1, { wanted: 'member' })] },
    live: new Set(['host-1']),
    certificates,
  });
  assert.equal(first.isHealthy, true);
  const lost = clusterState({
    uid: '1',
    members: [member(1, running('0')), member(2, 'no answer'), member(3, 'no answer')],
    records: { settings: { members: 1 }, hosts: [1, 2, 3].map((number) => host(number, {})) },
    live: new Set(),
    certificates,
  });
  assert.equal(lost.isHealthy, false);
  golden('cluster-status-edges', `${statusText('1', first)}\n${statusText('1', lost)}`);
});
