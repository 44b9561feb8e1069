import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import type { GlobalNetworkPolicy } from '../../model/kinds/global-network-policy.ts';
import type { HostEndpoint } from '../../model/kinds/host-endpoint.ts';
import { hostEndpointNotes } from './host-endpoint-notes.ts';

const apiVersion = 'projectcalico.org/v3';
const hep = (name: string, spec: HostEndpoint['spec']): HostEndpoint => ({
  kind: 'HostEndpoint',
  apiVersion,
  metadata: { name },
  spec: { node: 'here', ...spec },
});

function notesOf(applied: HostEndpoint | GlobalNetworkPolicy, ...stored: readonly HostEndpoint[]) {
  const all = applied.kind === 'HostEndpoint' ? [...stored, applied] : stored;
  return hostEndpointNotes([applied], {
    node: 'here',
    stored: new Map(all.map((one) => [one.metadata.name, one])),
    interfaces: () =>
      ['lo', 'eth0', 'docker0', 'br-1f2e', 'cali0123', 'eth1'].map((name) => ({
        name,
        addresses: name === 'eth1' ? [parseAddress('192.0.2.1')] : [],
      })),
  });
}

test('apply names the interfaces that a host endpoint covers: bridges of Docker too, lo and those of containers never', () => {
  const all = hep('all', { interfaceName: '*' });
  assert.deepEqual(notesOf(all), [
    'HostEndpoint all covers br-1f2e, docker0, eth0, eth1, and interfaces created later',
  ]);
  assert.deepEqual(notesOf(all, hep('uplink', { interfaceName: 'eth0' })), [
    'HostEndpoint all covers br-1f2e, docker0, eth1, and interfaces created later',
  ]);
  assert.deepEqual(notesOf(hep('byAddress', { expectedIPs: ['192.0.2.1'] })), [
    'HostEndpoint byAddress covers eth1',
  ]);
  assert.deepEqual(notesOf(hep('later', { interfaceName: 'eth9' })), [
    'HostEndpoint later covers no interface of this host: eth9 does not exist yet',
  ]);
  assert.deepEqual(notesOf(hep('lo', { interfaceName: 'lo' })), [
    'HostEndpoint lo covers no interface of this host',
  ]);
  assert.deepEqual(notesOf(hep('there', { node: 'there', interfaceName: '*' })), [
    'HostEndpoint there covers all interfaces without an endpoint of their own of node there',
  ]);
});

test('apply says what a policy without connection tracking does to published ports and replies', () => {
  const policy = (spec: GlobalNetworkPolicy['spec']): GlobalNetworkPolicy => ({
    kind: 'GlobalNetworkPolicy',
    apiVersion,
    metadata: { name: 'fast' },
    spec,
  });
  assert.match(
    notesOf(policy({ doNotTrack: true, applyOnForward: true })).join(),
    /^GlobalNetworkPolicy fast: .* replies need a rule of their own, and published ports do not work/,
  );
  assert.deepEqual(notesOf(policy({ applyOnForward: true })), []);
});
