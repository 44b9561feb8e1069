import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { parseAddress } from '../../src/ip/address.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import { addHostAddress } from '../../src/dataplane/netlink/address.ts';
import { flushFlows, type Flow } from '../../src/dataplane/netlink/conntrack.ts';
import { Ipset } from '../../src/dataplane/netlink/ipset.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { createVeth, deleteLinkOffThread, listLinks } from '../../src/dataplane/netlink/link.ts';
import { KernelMonitor, type KernelEvent } from '../../src/dataplane/netlink/monitor.ts';
import { uplinksOf } from '../../src/host/networks.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import {
  addPolicyRule,
  deletePolicyRule,
  listPolicyRules,
  type PolicyRule,
} from '../../src/dataplane/netlink/policy-rule.ts';
import {
  deleteRoute,
  listRoutes,
  ourProtocol,
  replaceRoute,
  routeTables,
  type Route,
} from '../../src/dataplane/netlink/route.ts';
import { isRefusal, NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';

const namespace = `calico-netlink-${process.pid}`;
const path = `/run/netns/${namespace}`;

function ip(...argv: readonly string[]): string {
  return execFileSync('ip', ['-n', namespace, ...argv], { encoding: 'utf8' });
}

describe('netlink against ip and ipset', () => {
  const libc = loadLibc();
  let rtnetlink: NetlinkSocket;
  let ipset: Ipset;
  before(() => {
    execFileSync('ip', ['netns', 'add', namespace]);
    ip('link', 'set', 'lo', 'up');
    rtnetlink = inNetworkNamespace(libc, path, () => NetlinkSocket.open(libc, 0));
    ipset = new Ipset(inNetworkNamespace(libc, path, () => NetlinkSocket.open(libc, 12)));
  });
  after(() => {
    rtnetlink.close();
    execFileSync('ip', ['netns', 'del', namespace]);
  });

  const veth = {
    hostName: 'cali0',
    hostMac: 'ee:ee:ee:ee:ee:ee',
    peerName: 'temp0',
    peerMac: 'ca:01:02:03:04:05',
    mtuBytes: 1400,
  };

  test('the MTU of containers is the smallest of the interfaces with the default route and with the own addresses', () => {
    const uplinks = [
      { name: 'up0', mtu: 9000, net: '10.70.0.5/24' },
      { name: 'up1', mtu: 1450, net: '10.71.0.5/24' },
      { name: 'up2', mtu: 1400, net: '10.72.0.5/24' },
    ];
    try {
      assert.equal(uplinksOf(rtnetlink, []).mtuBytes, 1500);
      for (const { name, mtu, net } of uplinks) {
        ip('link', 'add', name, 'mtu', String(mtu), 'type', 'veth', 'peer', 'name', `${name}p`);
        ip('addr', 'add', net, 'dev', name);
        ip('link', 'set', name, 'up');
      }
      ip('route', 'add', 'default', 'via', '10.70.0.1', 'dev', 'up0');
      const own = parseAddress('10.71.0.5');
      assert.equal(uplinksOf(rtnetlink, []).mtuBytes, 9000);
      assert.equal(uplinksOf(rtnetlink, [own]).mtuBytes, 1450);
    } finally {
      for (const { name } of uplinks) ip('link', 'del', name);
    }
  });

  test('a veth has the names, addresses, MTU and settings that were asked for', () => {
    createVeth(rtnetlink, veth);
    const shown = ip('link', 'show');
    assert.match(shown, /cali0@temp0: .*UP.* mtu 1400/);
    assert.match(shown, /ca:01:02:03:04:05/);
    const read = (setting: string) =>
      execFileSync(
        'ip',
        ['netns', 'exec', namespace, 'cat', `/proc/sys/net/ipv4/conf/cali0/${setting}`],
        { encoding: 'utf8' },
      ).trim();
    assert.deepEqual([read('forwarding'), read('rp_filter'), read('proxy_arp')], ['1', '2', '0']);
    assert.equal(
      listLinks(rtnetlink).find(({ name }) => name === 'temp0')?.mac,
      'ca:01:02:03:04:05',
    );
  });

  test('making it again is refused in the words of the kernel', () => {
    assert.throws(
      () => createVeth(rtnetlink, veth),
      (error: unknown) => isRefusal(error, 'EEXIST'),
    );
  });

  test('routes are made, listed by our protocol, and removed', () => {
    const index = listLinks(rtnetlink).find(({ name }) => name === 'cali0')?.index ?? assert.fail();
    const lo = listLinks(rtnetlink).find(({ name }) => name === 'lo')?.index ?? assert.fail();
    const routes: readonly Route[] = [
      {
        destination: parseCidr('10.65.0.1/32'),
        table: 254,
        type: 'unicast',
        scope: 'link',
        linkIndex: index,
      },
      {
        destination: parseCidr('169.254.7.1/32'),
        table: 255,
        type: 'local',
        scope: 'host',
        linkIndex: lo,
      },
      { destination: parseCidr('10.65.0.0/26'), table: 254, type: 'blackhole', scope: 'global' },
    ];
    for (const route of routes) replaceRoute(rtnetlink, route);
    for (const route of routes) replaceRoute(rtnetlink, route);
    assert.match(ip('route', 'show', 'proto', '80'), /10\.65\.0\.1 dev cali0 scope link/);
    assert.match(ip('route', 'show', 'table', 'local'), /local 169\.254\.7\.1 dev lo proto 80/);
    const listed = listRoutes(rtnetlink, { family: 4, protocol: ourProtocol });
    assert.deepEqual(
      listed.map(({ destination }) => destination).toSorted(),
      routes.map(({ destination }) => destination).toSorted(),
    );
    for (const route of listed) deleteRoute(rtnetlink, route);
    assert.deepEqual(listRoutes(rtnetlink, { family: 4, protocol: ourProtocol }), []);
  });

  test('IPv6 addresses and routing rules', () => {
    const index = listLinks(rtnetlink).find(({ name }) => name === 'cali0')?.index ?? assert.fail();
    addHostAddress(rtnetlink, { linkIndex: index, address: parseAddress('fe80::7') });
    addHostAddress(rtnetlink, { linkIndex: index, address: parseAddress('fe80::7') });
    assert.match(ip('-6', 'addr', 'show', 'dev', 'cali0'), /fe80::7\/128/);
    const rule = {
      family: 4,
      from: parseCidr('10.65.0.1/32'),
      to: parseCidr('10.65.0.0/16'),
      priority: 100,
      table: 7,
      isWithoutDefault: false,
    } as const;
    const main = { priority: 101, table: routeTables.main, isWithoutDefault: true } as const;
    const rules: readonly PolicyRule[] = [
      { ...rule, protocol: ourProtocol },
      { ...main, family: 4, protocol: ourProtocol },
      { ...main, family: 6, protocol: ourProtocol },
    ];
    const ours = () =>
      [4, 6].flatMap((family) =>
        listPolicyRules(rtnetlink, family === 4 ? 4 : 6).filter(
          ({ priority }) => priority === 100 || priority === 101,
        ),
      );
    for (const one of rules) addPolicyRule(rtnetlink, one);
    for (const one of rules) addPolicyRule(rtnetlink, one);
    assert.deepEqual(ours(), rules);
    assert.match(ip('-6', 'rule'), /101:\s+from all lookup main suppress_prefixlength 0/);
    for (const one of rules) deletePolicyRule(rtnetlink, one);
    assert.deepEqual(ours(), []);
  });

  test('address sets of every type hold what was added', () => {
    for (const family of [4, 6] as const) {
      const net = family === 4 ? '10.0.0.0/8' : 'fd00::/48';
      const host = family === 4 ? '10.65.0.1/32' : 'fd00::1/128';
      const plain = { name: `cali${family}0s`, type: 'net', family, countsPackets: false } as const;
      const pairs = {
        name: `cali${family}0w`,
        type: 'net,interface',
        family,
        countsPackets: true,
      } as const;
      const ports = {
        name: `cali${family}0n`,
        type: 'address,port',
        family,
        countsPackets: false,
      } as const;
      const places = ['tcp:80', 'udp:65535', 'sctp:1'].map((port) => `${host},${port}`);
      ipset.create(plain);
      ipset.create(pairs);
      ipset.create(ports);
      ipset.add(ports, [...places, `${host},tcp:81`]);
      ipset.remove(ports, [`${host},tcp:81`, `${host},udp:80`]);
      ipset.add(plain, [net, host]);
      ipset.add(plain, [host]);
      ipset.add(pairs, [`${host},cali0`, `${host},cali1`]);
      ipset.remove(pairs, [`${host},cali1`, `${host},cali9`]);
      const members = (name: string) =>
        ipset
          .members(name, family)
          .map(({ member }) => member)
          .toSorted();
      assert.deepEqual(members(plain.name), [net, host].toSorted());
      assert.deepEqual(members(pairs.name), [`${host},cali0`]);
      assert.deepEqual(members(ports.name), places.toSorted());
      const shown = execFileSync('ip', ['netns', 'exec', namespace, 'ipset', 'list', pairs.name], {
        encoding: 'utf8',
      });
      assert.match(shown, /counters/);
      assert.match(shown, /,cali0 packets 0 bytes 0/);
    }
    assert.equal(ipset.list().length, 6);
    ipset.add(
      { name: 'cali40s', type: 'net', family: 4, countsPackets: false },
      Array.from({ length: 3000 }, (_, n) => `10.9.${n >> 8}.${n & 255}/32`),
    );
    assert.equal(ipset.members('cali40s', 4).length, 3002);
    for (const { name } of ipset.list()) ipset.destroy(name);
    assert.deepEqual(ipset.list(), []);
  });

  test('a flow is told with who answers at which port after translation, and with its mark', () => {
    const flow = 'tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4000 --dport 8080 --dst-nat 10.0.0.3:80';
    const add = `conntrack -I -t 100 -m 0x200000 -p ${flow} --state ESTABLISHED`;
    execFileSync('ip', ['netns', 'exec', namespace, 'sh', '-ec', add]);
    const netfilter = inNetworkNamespace(libc, path, () => NetlinkSocket.open(libc, 12));
    const flows: Flow[] = [];
    flushFlows(netfilter, [4], (one) => flows.push(one) === 0);
    const [found, another] = flows;
    netfilter.close();
    assert.equal(another, undefined);
    const { tuple: _, ...told } = found ?? assert.fail('no flow');
    assert.deepEqual(told, {
      family: 4,
      source: '10.0.0.1',
      destination: '10.0.0.2',
      protocol: 6,
      sourcePort: 4000,
      destinationPort: 8080,
      answerer: '10.0.0.3',
      answeringPort: 80,
      mark: 0x20_0000,
    });
  });

  test('the monitor tells of links, routes and foreign nf_tables changes, and ends', async () => {
    const events: KernelEvent[] = [];
    const monitor = inNetworkNamespace(
      libc,
      path,
      () => new KernelMonitor(libc, (told) => events.push(...told)),
    );
    const stop = new AbortController();
    const running = monitor.run(stop.signal);
    await deleteLinkOffThread(rtnetlink, 'cali0');
    await deleteLinkOffThread(rtnetlink, 'cali0');
    execFileSync('ip', ['netns', 'exec', namespace, 'nft', 'add', 'table', 'ip', 'x']);
    for (let wait = 0; wait < 500 && !events.some(({ kind }) => kind === 'nftables'); wait++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.ok(
      events.some((event) => event.kind === 'link' && event.isGone && event.link.name === 'cali0'),
    );
    assert.ok(events.some((event) => event.kind === 'nftables' && event.processId !== process.pid));
    stop.abort();
    await running;
    monitor.close();
  });
});
