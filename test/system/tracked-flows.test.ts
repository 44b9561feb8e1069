import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { refused } from '../../src/dataplane/netlink/errno.ts';
import {
  flushFlows,
  flushFlowsOf,
  type FlowSocket,
} from '../../src/dataplane/netlink/conntrack.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const addresses = ['10.65.0.7', '10.65.0.8', '10.65.0.9', 'fd65::7', 'fd65::8', 'fd65::9'];
/** The address that is handed over begins one flow and answers one, in each family; one is of others. */
const begun = ['7>8', '8>7', '8>9'].flatMap((way) => {
  const [from = '', to = ''] = way.split('>');
  return ['10.65.0.', 'fd65::'].map((prefix) => ({ from: prefix + from, to: prefix + to }));
});

describe('tracked flows of an address', () => {
  const socket = NetlinkSocket.open(loadLibc(), 12);
  const flows = () => {
    const seen: string[] = [];
    flushFlows(socket, [4, 6], ({ source, destination }) => {
      seen.push(`${source}>${destination}`);
      return false;
    });
    return seen.toSorted();
  };
  /** As a kernel that does not filter removals. */
  const older: FlowSocket = {
    request: (one) => socket.request(one),
    requestsOffThread: ([first]) => Promise.reject(refused(first?.what ?? '', 22)),
    dumpOffThread: (one) => socket.dumpOffThread(one),
  };

  before(() => {
    const add = addresses.map((one) => `ip addr add ${one} dev lo`);
    const track = ['iptables', 'ip6tables'].map(
      (tool) => `${tool} -A INPUT -m conntrack --ctstate NEW -j ACCEPT`,
    );
    execFileSync('sh', ['-ec', [...add, ...track].join('\n')]);
  });
  beforeEach(async () => {
    flushFlows(socket, [4, 6], () => true);
    for (const { from, to } of begun) await send(from, to);
    // The kernel may skip an entry in one listing while it deletes others.
    for (let tries = 0; tries < 100 && flows().length !== begun.length; tries++) {
      await setTimeout(20);
    }
    assert.equal(flows().length, begun.length);
  });
  after(() => socket.close());

  for (const [name, through] of [
    ['this kernel', socket],
    ['a kernel that does not filter removals', older],
  ] as const) {
    test(`are ended in both directions, and no others: ${name}`, async () => {
      for (const [given, left] of [
        ['10.65.0.7', (way: string) => !way.startsWith('10.') || !way.includes('10.65.0.7')],
        ['fd65::7', (way: string) => !way.startsWith('fd65') || !way.includes('fd65::7')],
      ] as const) {
        const there = flows();
        const ended = await flushFlowsOf(through, new Set([parseAddress(given)]));
        assert.deepEqual([...ended], [given]);
        assert.deepEqual(flows(), there.filter(left));
      }
      assert.deepEqual(flows(), ['10.65.0.8>10.65.0.9', 'fd65::8>fd65::9']);
    });

    test(`of an address that has none, no others are ended: ${name}`, async () => {
      const strangers = ['10.65.0.99', 'fd65::99'].map(parseAddress);
      const there = flows();
      await flushFlowsOf(through, new Set(strangers));
      assert.deepEqual(flows(), there);
    });
  }

  test('of one among many addresses are ended as well', async () => {
    const strangers = Array.from({ length: 120 }, (_, n) => `10.66.0.${n + 1}`);
    const there = flows();
    for (const given of [
      [...strangers, '10.65.0.7'],
      ['10.65.0.8', ...strangers],
    ]) {
      await flushFlowsOf(socket, new Set(given.map(parseAddress)));
    }
    assert.deepEqual(
      flows(),
      there.filter((way) => !/10\.65\.0\.[78]/.test(way)),
    );
  });

  test('among thousands of others are ended as well', async () => {
    const sender = createSocket('udp6');
    sender.bind(0, 'fd65::8');
    await once(sender, 'listening');
    // One after the other: of many at once the kernel drops some.
    for (let port = 1; port <= 2500; port++) {
      await new Promise((resolve) => sender.send('x', port, 'fd65::9', resolve));
    }
    await new Promise<void>((resolve) => sender.close(() => resolve()));
    const there = flows();
    assert.ok(there.length > 2000, `${there.length} flows`);
    await flushFlowsOf(socket, new Set([parseAddress('fd65::7'), parseAddress('10.65.0.7')]));
    assert.deepEqual(
      flows(),
      there.filter((way) => !/:7\b|\.7\b/.test(way)),
    );
  });
});

/** One datagram, which nobody receives. */
async function send(from: string, to: string): Promise<void> {
  const socket = createSocket(to.includes(':') ? 'udp6' : 'udp4');
  socket.bind(0, from);
  await once(socket, 'listening');
  await new Promise((resolve) => socket.send('x', 9, to, resolve));
  await new Promise<void>((resolve) => socket.close(() => resolve()));
}
