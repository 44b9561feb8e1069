import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { offloadsChecksums } from '../../src/dataplane/tunnels/checksum-offload.ts';
import { Links, linkCalls, type DesiredLink } from '../../src/dataplane/tunnels/links.ts';
import { Neighbours, neighbourCalls } from '../../src/dataplane/tunnels/neighbours.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { listLinks } from '../../src/dataplane/netlink/link.ts';
import { KernelMonitor, type KernelEvent } from '../../src/dataplane/netlink/monitor.ts';
import type { Neighbour } from '../../src/dataplane/netlink/neighbour.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { parseAddress, type IpAddress } from '../../src/ip/address.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();

function run(command: string): string {
  const [file = '', ...rest] = command.split(' ');
  return execFileSync(file, rest, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

for (const command of [
  'ip link add eth0 type veth peer name wire',
  'ip link set eth0 up',
  'ip link set wire up',
  'ip addr add 192.0.2.1/24 dev eth0',
  'ip addr add 2001:db8::1/64 dev eth0 nodad',
]) {
  run(command);
}

const libc = loadLibc();
const socket = NetlinkSocket.open(libc, 0);
const under = listLinks(socket).find(({ name }) => name === 'eth0')?.index ?? assert.fail();
const mac = '66:11:22:33:44:55';

interface Case {
  readonly link: DesiredLink;
  readonly peer: IpAddress;
  readonly remote: IpAddress;
}

function caseOf(name: string, vni: number, texts: readonly [string, string, string, string]): Case {
  const [local, address, peer, remote] = texts.map((text) => parseAddress(text));
  if (local === undefined || address === undefined) throw new Error('too few addresses');
  if (peer === undefined || remote === undefined) throw new Error('too few addresses');
  const is = { kind: 'vxlan', vni, port: 4789, local, under } as const;
  return {
    link: { name, is, mac: '66:00:00:00:00:01', mtuBytes: 1430, addresses: [address] },
    peer,
    remote,
  };
}

const cases = [
  caseOf('vxlan.calico', 200, ['192.0.2.1', '10.65.0.1', '10.65.1.1', '192.0.2.2']),
  caseOf('vxlan-v6.calico', 201, ['2001:db8::1', 'fd00::1', 'fd00:1::1', '2001:db8::2']),
];

describe('tunnel interfaces and their neighbours, as ip and bridge see them', () => {
  const own = new Map(cases.map(({ link }) => [link.name, 'vxlan'] as const));
  const links = new Links(linkCalls(socket, libc, true), own);
  const neighbours = new Neighbours(neighbourCalls(socket), {
    names: [...own.keys()],
    indexOf: (name) => links.indexOf(name),
  });
  const apply = () => {
    links.apply();
    neighbours.apply();
    assert.deepEqual([...links.failures(), ...neighbours.failures()], []);
  };
  let relevant = 0;
  const take = (event: KernelEvent): boolean => {
    if (event.kind === 'link') return links.linkChanged(event.link, event.isGone);
    if (event.kind === 'address') return links.addressChanged(event.address, event.isGone);
    return event.kind === 'neighbour' && neighbours.changed(event.entry, event.isGone);
  };
  const stop = new AbortController();
  const monitor = new KernelMonitor(libc, (events) => {
    const found = events.map(take).includes(true);
    if (!found) return;
    relevant++;
    apply();
  });
  const monitoring = monitor.run(stop.signal);
  after(async () => {
    stop.abort();
    await monitoring;
    monitor.close();
    socket.close();
    namespace[Symbol.dispose]();
  });

  for (const { link, peer, remote } of cases) {
    const { name, addresses } = link;
    const entries: readonly Neighbour[] = [
      { kind: 'neighbour', address: peer, mac },
      { kind: 'forwarding', mac, remote },
    ];
    const shown = () => ({
      link: run(`ip -d link show ${name}`),
      addresses: run(`ip addr show dev ${name}`),
      neighbours: run(`ip neigh show dev ${name} nud permanent`).trim(),
      forwarding: run(`bridge fdb show dev ${name}`).trim(),
    });
    const isRight = () => {
      try {
        const { link: line, addresses: its, neighbours: near, forwarding } = shown();
        return (
          /mtu 1430 /.test(line) &&
          /[<,]UP[,>]/.test(line) &&
          line.includes('66:00:00:00:00:01') &&
          / nolearning /.test(line) &&
          addresses.every((address) => its.includes(`${address}/`)) &&
          !its.includes('203.0.113.9') &&
          near === `${peer} lladdr ${mac} PERMANENT` &&
          forwarding === `${mac} dst ${remote} self permanent`
        );
      } catch {
        // While the link is being made again.
        return false;
      }
    };

    test(`${name}: created with the desired settings, then left alone`, async () => {
      links.setDesired(link);
      for (const entry of entries) neighbours.setDesired(name, entry);
      apply();
      assert.ok(isRight(), JSON.stringify(shown(), undefined, 1));
      const { requests } = socket;
      apply();
      assert.equal(socket.requests, requests, 'nothing to do');
      links.resync();
      neighbours.resync();
      const index = links.indexOf(name);
      apply();
      assert.equal(links.indexOf(name), index, 'it was recognized');
      assert.equal(offloadsChecksums(libc, name), false, 'as on a kernel up to 5.7');
      assert.ok(isRight(), JSON.stringify(shown(), undefined, 1));
    });

    for (const change of [
      `ip link set ${name} mtu 1300`,
      `ip link set ${name} address 66:00:00:00:00:99`,
      `ip link set ${name} down`,
      `ip link del ${name}`,
      `ip addr flush dev ${name} scope global`,
      `ip addr add 203.0.113.9/32 dev ${name}`,
      `ip neigh del ${peer} dev ${name}`,
      `ip neigh replace ${peer} lladdr 66:11:22:33:44:99 dev ${name} nud reachable`,
      `ip neigh add ${addresses[0] ?? ''} lladdr 66:11:22:33:44:99 dev ${name} nud permanent`,
      `bridge fdb del ${mac} dev ${name}`,
      `bridge fdb replace ${mac} dev ${name} dst ${cases[0]?.remote === remote ? '192.0.2.9' : '2001:db8::9'}`,
      `bridge fdb append 00:00:00:00:00:00 dev ${name} dst ${remote}`,
    ]) {
      test(`repaired: ${change}`, async () => {
        const before = relevant;
        run(change);
        assert.ok(
          await eventually(() => relevant > before && isRight()),
          JSON.stringify(shown(), undefined, 1),
        );
      });
    }

    test(`repaired: ${name} made again by hand with learning and flooding`, async () => {
      run(`ip link del ${name}`);
      assert.ok(await eventually(isRight));
      assert.ok(await eventually(() => links.indexOf(name) !== undefined));
      // Nothing is applied between the two, because this process runs both.
      run(`ip link del ${name}`);
      run(`ip link add ${name} type vxlan id 300 dstport 4789 remote ${remote} dev eth0`);
      assert.ok(await eventually(isRight), JSON.stringify(shown(), undefined, 1));
    });
  }

  test('others of the host are left alone, and ours are removed when nothing needs them', () => {
    run('ip neigh add 192.0.2.9 lladdr 66:11:22:33:44:99 dev eth0 nud permanent');
    run('ip link add vxlan9 type vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0');
    run(`bridge fdb append ${mac} dev vxlan9 dst 192.0.2.2`);
    for (const { link } of cases) links.deleteDesired(link.name);
    apply();
    const left = run('ip -o link show');
    for (const { link } of cases) assert.ok(!left.includes(` ${link.name}:`), left);
    assert.match(left, /vxlan9/);
    assert.match(run('ip neigh show dev eth0'), /192\.0\.2\.9 lladdr 66:11:22:33:44:99 PERMANENT/);
    assert.match(run('bridge fdb show dev vxlan9'), /dst 192\.0\.2\.2/);
  });

  test('a VNI that another interface has on the same port is reported', () => {
    const taken = caseOf('vxlan.calico', 4096, [
      '192.0.2.1',
      '10.65.0.1',
      '10.65.1.1',
      '192.0.2.2',
    ]);
    links.setDesired(taken.link);
    links.apply();
    assert.match(links.failures()[0]?.why ?? '', /VNI already exists/);
  });
});
