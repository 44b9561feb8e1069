import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseInterfaceAddress } from '../ip/cidr.ts';
import type { Node } from '../model/kinds/node.ts';
import { detectAddresses, withDetectedAddresses, type HostInterface } from './node-addresses.ts';

const link = (name: string, ...addresses: readonly string[]): HostInterface => ({
  name,
  addresses: addresses.map(parseInterfaceAddress),
});

test('the first global address of the first interface of the host itself is chosen', () => {
  const found = detectAddresses([
    link('lo', '127.0.0.1/8', '::1/128', '192.0.2.1/32'),
    link('docker0', '172.17.0.1/16'),
    link('br-0123456789ab', '172.18.0.1/16'),
    link('virbr0', '192.168.122.1/24'),
    link('tunl0', '10.65.0.1/32'),
    link('cali0123456789a', '10.65.0.2/32', 'fe80::1/64'),
    link('vxlan.calico', '10.65.0.3/32'),
    link('down0'),
    link('eth0', '169.254.7.7/16', '172.16.0.11/24', '172.16.0.12/24', 'fe80::2/64'),
    link('long0', '10.0.0.5/8', 'fd00::5/64'),
  ]);
  assert.deepEqual(found, { ipv4Address: '172.16.0.11/24', ipv6Address: 'fd00::5/64' });
});

test('names that only begin like a skipped one are skipped as upstream does, except lo', () => {
  const names = ['brave0', 'lodge0', 'enp3s0', 'bond0', 'wlan0', 'wg0', 'tailscale0'];
  for (const name of names)
    assert.deepEqual(detectAddresses([link(name, '10.1.1.1/24')]), { ipv4Address: '10.1.1.1/24' });
  for (const name of ['docker_gwbridge', 'veth12', 'cni-podman0', 'dummy7', 'flannel.1'])
    assert.deepEqual(detectAddresses([link(name, '10.1.1.1/24')]), {});
});

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
  const first = withDetectedAddresses(bare, { ipv4Address: '172.16.0.11/24' });
  assert.deepEqual(shown(first), ['172.16.0.11/24', undefined, '172.16.0.11/24 CalicoNodeIP']);
  assert.deepEqual(first.metadata.labels, { rack: 'a' });
  assert.equal(withDetectedAddresses(first, { ipv4Address: '172.16.0.11/24' }), first);
  assert.equal(withDetectedAddresses(first, {}), first);
  const moved = { ipv4Address: '10.0.0.7/8', ipv6Address: 'fd00::7/64' };
  const second = withDetectedAddresses(first, moved);
  assert.deepEqual(shown(second), [
    '10.0.0.7/8',
    'fd00::7/64',
    '10.0.0.7/8 CalicoNodeIP',
    'fd00::7/64 CalicoNodeIP',
  ]);
  assert.equal(withDetectedAddresses(bare, {}), bare);
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
  assert.equal(withDetectedAddresses(others, { ipv4Address: '172.16.0.11/24' }), others);
  const both = { ipv4Address: '172.16.0.11/24', ipv6Address: 'fd00::7/64' };
  assert.equal(withDetectedAddresses(others, both), others);
  // Somebody takes over what we wrote, and that stays, too.
  const ours = withDetectedAddresses(bare, { ipv4Address: '172.16.0.11/24' });
  const taken: Node = { ...ours, spec: { ...ours.spec, bgp: { ipv4Address: '192.0.2.9/24' } } };
  const after = withDetectedAddresses(taken, { ipv4Address: '172.16.0.12/24' });
  assert.equal(after.spec.bgp?.ipv4Address, '192.0.2.9/24');
});
