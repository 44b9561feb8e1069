import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import { hostInterfaceName, temporaryInterfaceName } from './interfaces.ts';
import { UplinkMtu } from './uplink-mtu.ts';

const endpoint = '0123456789abcdef';
const link = (name: string, isGone = false): KernelEvent => ({
  kind: 'link',
  isGone,
  link: {
    index: 7,
    name,
    mac: '02:00:00:00:00:01',
    mtuBytes: 1400,
    isUp: true,
    hasCarrier: true,
    leadsOut: false,
  },
});
const address = (text: string): KernelEvent => ({
  kind: 'address',
  isGone: false,
  address: { linkIndex: 7, address: parseAddress(text), prefixLength: 24 },
});
const route = (destination: string): KernelEvent => ({
  kind: 'routeGone',
  route: {
    destination: parseCidr(destination),
    table: 254,
    protocol: 3,
    metric: 0,
    linkIndex: 7,
    route: undefined,
  },
});

for (const [name, event, isFollowed] of [
  ['an interface of the host', link('eth0'), true],
  ['an interface of the host that is gone', link('eth0', true), true],
  ['an address of the host', address('192.0.2.1'), true],
  ['the default route', route('0.0.0.0/0'), true],
  ['lost events', { kind: 'overrun' }, true],
  ["a container's interface", link(hostInterfaceName(endpoint)), false],
  ["a container's interface before it is moved", link(temporaryInterfaceName(endpoint)), false],
  ["a link-local address, as a container's interface gets one", address('fe80::1'), false],
  ['the route to a container', route('10.65.0.1/32'), false],
] as const) {
  test(`the MTU is read ${isFollowed ? '' : 'once, not '}again after a change of ${name}`, () => {
    let mtu = 1500;
    const uplink = new UplinkMtu(() => mtu);
    assert.equal(uplink.bytes([]), 1500);
    mtu = 1400;
    assert.equal(uplink.bytes([]), 1500);
    uplink.onKernelEvents([{ kind: 'nftables', processId: 1 }, event]);
    assert.equal(uplink.bytes([]), isFollowed ? 1400 : 1500);
  });
}

test('the MTU is read again when other hosts reach this one by another address', () => {
  const uplink = new UplinkMtu((own) => 1000 + own.length);
  assert.equal(uplink.bytes([]), 1000);
  assert.equal(uplink.bytes([parseAddress('192.0.2.1')]), 1001);
});
