import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node } from '../model/kinds/node.ts';
import { withNodeAddresses, type NodeAddresses } from './node-addresses.ts';

const interfaces = [{ name: 'eth0', addresses: ['172.16.0.11/24'] }];

interface Given {
  readonly ipv4Address?: string;
  readonly ipv6Address?: string;
  /** Families that the settings give. */
  readonly given?: readonly number[];
}

function withAddresses(node: Node, { ipv4Address, ipv6Address, given = [] }: Given): Node {
  const host: NodeAddresses = {
    4: { address: ipv4Address, isGiven: given.includes(4) },
    6: { address: ipv6Address, isGiven: given.includes(6) },
    interfaces,
  };
  return withNodeAddresses(node, host);
}

const bare: Node = {
  kind: 'Node',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'host-a', labels: { rack: 'a' } },
  spec: {},
};
const shown = ({ spec }: Node) => [
  spec.bgp?.ipv4Address,
  spec.bgp?.ipv6Address,
  ...(spec.addresses ?? []).map(({ address, type }) => `${address} ${type ?? ''}`),
];

test('a Node gets the addresses, follows them, and keeps them while none is found', () => {
  const first = withAddresses(bare, { ipv4Address: '172.16.0.11/24' });
  assert.deepEqual(shown(first), ['172.16.0.11/24', undefined, '172.16.0.11/24 CalicoNodeIP']);
  assert.deepEqual(first.metadata.labels, { rack: 'a' });
  assert.equal(withAddresses(first, { ipv4Address: '172.16.0.11/24' }), first);
  assert.equal(withAddresses(first, {}), first);
  const moved = { ipv4Address: '10.0.0.7/8', ipv6Address: 'fd00::7/64' };
  const second = withAddresses(first, moved);
  assert.deepEqual(shown(second), [
    '10.0.0.7/8',
    'fd00::7/64',
    '10.0.0.7/8 CalicoNodeIP',
    'fd00::7/64 CalicoNodeIP',
  ]);
  assert.equal(withAddresses(bare, {}), bare);
});

test('a Node with an address that others wrote stays as it is', () => {
  const others: Node = {
    ...bare,
    spec: {
      bgp: { ipv4Address: '192.0.2.9/24', asNumber: 64512, ipv4IPIPTunnelAddr: '10.65.3.0' },
      addresses: [
        { address: '192.0.2.9/24', type: 'CalicoNodeIP' },
        { address: '192.0.2.9', type: 'InternalIP' },
      ],
      ipv4VXLANTunnelAddr: '10.65.3.1',
    },
  };
  assert.equal(withAddresses(others, { ipv4Address: '172.16.0.11/24' }), others);
  const both = { ipv4Address: '172.16.0.11/24', ipv6Address: 'fd00::7/64' };
  assert.equal(withAddresses(others, both), others);
  // Somebody takes over what we wrote, and that stays, too.
  const ours = withAddresses(bare, { ipv4Address: '172.16.0.11/24' });
  const taken: Node = { ...ours, spec: { ...ours.spec, bgp: { ipv4Address: '192.0.2.9/24' } } };
  const after = withAddresses(taken, { ipv4Address: '172.16.0.12/24' });
  assert.equal(after.spec.bgp?.ipv4Address, '192.0.2.9/24');
});

test('an address in the settings replaces what others wrote, and none removes our own', () => {
  const others: Node = { ...bare, spec: { bgp: { ipv4Address: '192.0.2.9/24' } } };
  const given = withAddresses(others, { ipv4Address: '10.0.0.7/8', given: [4] });
  assert.deepEqual(shown(given), ['10.0.0.7/8', undefined, '10.0.0.7/8 CalicoNodeIP']);
  const both = withAddresses(bare, { ipv4Address: '10.0.0.7/8', ipv6Address: 'fd00::7/64' });
  const without = withAddresses(both, { ipv4Address: '10.0.0.7/8', given: [6] });
  assert.deepEqual(shown(without), ['10.0.0.7/8', undefined, '10.0.0.7/8 CalicoNodeIP']);
  const none = withAddresses(both, { given: [4, 6] });
  assert.deepEqual(none.spec, { addresses: [], interfaces });
});

test('a Node lists the interfaces of its host', () => {
  const node = withAddresses(bare, { ipv4Address: '172.16.0.11/24' });
  assert.deepEqual(node.spec.interfaces, interfaces);
});
