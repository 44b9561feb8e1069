import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import { UplinkMtu } from './uplink-mtu.ts';

/** The number of the uplink. */
const uplinkIndex = 7;
const own = parseAddress('192.0.2.1');
const link = (index: number, isGone = false): KernelEvent => ({
  kind: 'link',
  isGone,
  link: {
    index,
    name: `link${index}`,
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
  ['the uplink', link(uplinkIndex), true],
  ['the uplink that is gone', link(uplinkIndex, true), true],
  ['an address of the uplink', address('192.0.2.1'), true],
  ['the default route', route('0.0.0.0/0'), true],
  ['lost events', { kind: 'overrun' }, true],
  ['the interface of a container', link(8), false],
  ['an address of another interface', address('fe80::1'), false],
  ['the route to a container', route('10.65.0.1/32'), false],
] as const) {
  test(`the MTU is read ${isFollowed ? '' : 'once, not '}again after a change of ${name}`, () => {
    let mtuBytes = 1500;
    const uplink = new UplinkMtu(() => ({ mtuBytes, indexes: new Set([uplinkIndex]) }));
    assert.equal(uplink.bytes([own]), 1500);
    mtuBytes = 1400;
    assert.equal(uplink.bytes([own]), 1500);
    uplink.onKernelEvents([{ kind: 'nftables', processId: 1 }, event]);
    assert.equal(uplink.bytes([own]), isFollowed ? 1400 : 1500);
  });
}

test('the MTU is read again when other hosts reach this one by another address', () => {
  const uplink = new UplinkMtu((of) => ({ mtuBytes: 1000 + of.length, indexes: new Set() }));
  assert.equal(uplink.bytes([]), 1000);
  assert.equal(uplink.bytes([own]), 1001);
});
