import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { coreAddress, twoSubnets } from '../lab/cluster/fabric.ts';
import { ensureBusyboxImage } from '../lab/image.ts';
import { Page } from '../lab/page.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { outputOrThrow } from '../lab/process.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { nextLook, patienceMs } from '../lab/poll.ts';

/** Every command of docs/multi-host.md, in its order, on hosts as the page describes them. */
describe('docs/multi-host.md', { timeout: 600_000 }, () => {
  let cluster: Cluster;
  let hosts: readonly [ClusterHost, ClusterHost, ClusterHost];
  const page = new Page('docs/multi-host.md', (text) =>
    text
      .replaceAll('172.16.0.2:', `${coreAddress(1)}:`)
      .replaceAll('172.16.0.0/16', '198.18.0.0/16')
      .replaceAll('172.16.9.13', '198.18.2.11')
      .replaceAll('172.16.0.', '198.18.1.'),
  );

  before(async () => {
    // The daemons start without a datastore of several hosts; the page's settings add it.
    const unset = [
      'ETCD_ENDPOINTS',
      'ETCD_CA_CERT_FILE',
      'ETCD_CERT_FILE',
      'ETCD_KEY_FILE',
      'CALICO_IPV4POOL_CIDR',
      'CALICO_IPV6POOL_CIDR',
    ];
    const settings = Object.fromEntries(unset.map((name) => [name, '']));
    const topology = twoSubnets(2, 1);
    cluster = await startCluster({
      topology,
      docker: '20.10',
      furnished: true,
      roles: false,
      settings,
    });
    const [one, two, three] = cluster.hosts;
    hosts = [one ?? assert.fail(), two ?? assert.fail(), three ?? assert.fail()];
    await Promise.all(hosts.map(({ host }) => ensureBusyboxImage(host.machine)));
  });
  after(() => cluster[Symbol.asyncDispose]());

  /** Runs a command as a person does, who repeats it until it shows what they wait for. */
  async function until(host: ClusterHost, command: string, wanted: RegExp): Promise<string> {
    const argv = ['sh', '-ec', command];
    for (const since = Date.now(); ; await nextLook(since)) {
      const result = await host.exec(argv, { timeoutMs: 60_000 });
      if (wanted.test(result.stdout) || Date.now() - since > patienceMs)
        return outputOrThrow(argv, result);
    }
  }
  const on = (host: ClusterHost) => (command: string) => until(host, command, /^/);
  const waiting = (host: ClusterHost, wanted: RegExp) => (command: string) =>
    until(host, command, wanted);

  test('settings: the hosts are nodes of one cluster', async () => {
    // Each host runs the same lines; the page is read once.
    const [first] = hosts;
    const lines: string[] = [];
    await page.run('1. Settings', async (line) => {
      lines.push(line);
      return '';
    });
    for (const line of lines) {
      await Promise.all(
        hosts.map(async (host) => {
          if (line !== 'systemctl restart calico-cnm') return on(host)(line);
          await host.host.stopCalico();
          return host.host.startCalico();
        }),
      );
    }
    await page.run('1. Settings', waiting(first, /host-2 .*\nhost-3 /));
  });

  test('VXLAN across subnets, a network, and a container on another host by its name', async () => {
    const [first, , third] = hosts;
    await page.run('2. VXLAN across subnets', waiting(first, /host-3 .* VXLAN |^(?!Node )/));
    await page.run('3. A network on all hosts', waiting(first, /3\/3|^(?!NAME)/));
    await page.run('4. Containers', on(third));
    await page.run('4. Containers', waiting(first, /hello/));
    await Promise.all(hosts.map((host, index) => host.run(`app-${index + 1}`, { network: 'web' })));
    await reachability(cluster.containers, 'all');
  });

  /** Whether another host opens a connection to the port of etcd on this one. */
  async function opensEtcd(from: ClusterHost, to: ClusterHost): Promise<boolean> {
    const open = `exec 3<>/dev/tcp/${to.place.address}/2379`;
    return (await from.exec(['timeout', '2', 'bash', '-c', open])).status === 0;
  }
  function listen(host: ClusterHost): void {
    const server =
      "import socket\ns = socket.create_server(('0.0.0.0', 2379))\nwhile True: s.accept()[0].close()";
    host.host.spawn(['python3', '-c', server]);
  }
  const tunnelled = (host: ClusterHost) => (from: Peer, to: Peer) =>
    from.on !== to.on &&
    [from.on, to.on].includes(host.name) &&
    [from.on, to.on].includes('host-3');

  test('ufw', async () => {
    const [first, second] = hosts;
    listen(first);
    await on(first)('ufw --force enable');
    await reachability(cluster.containers, 'all');
    assert.equal(await opensEtcd(second, first), false);
    await page.run('ufw', on(first));
    assert.equal(await opensEtcd(second, first), true);
    await on(first)('ufw disable');
  });

  test('firewalld', async () => {
    const [first, second] = hosts;
    listen(second);
    // As the installation does.
    await on(second)(
      `cp -r ${checkout}/plugin/host/etc/firewalld /etc; mkdir -p /run/dbus; dbus-daemon --system --fork --nopidfile`,
    );
    const firewalld = second.host.spawn(['firewalld', '--nofork']);
    await until(second, 'firewall-cmd --state || true', /^running/);
    const isTunnelled = tunnelled(second);
    await reachability(cluster.containers, (from, to) => !isTunnelled(from, to));
    assert.equal(await opensEtcd(first, second), false);
    await page.run('firewalld', on(second));
    await reachability(cluster.containers, 'all');
    assert.equal(await opensEtcd(first, second), true);
    await firewalld.end('SIGTERM');
  });

  test('nftables', async () => {
    const [first, , third] = hosts;
    listen(third);
    const start =
      'ct state established,related accept; iif lo accept; meta l4proto ipv6-icmp accept;';
    await on(third)(
      `nft 'table inet filter {
        chain input { type filter hook input priority 0; policy drop; ${start} }
        chain forward { type filter hook forward priority 0; policy drop; }
      }'`,
    );
    const isLocal = (from: Peer, to: Peer) => ![from.on, to.on].includes('host-3');
    await reachability(cluster.containers, isLocal);
    assert.equal(await opensEtcd(first, third), false);
    await page.run('nftables', on(third));
    await reachability(cluster.containers, 'all');
    assert.equal(await opensEtcd(first, third), true);
    await on(third)('nft delete table inet filter');
  });

  test('Clouds: a network that drops packets with container addresses', async () => {
    const [first, second] = hosts;
    const drop = `nft 'table ip cloud {
      chain arriving {
        type filter hook prerouting priority -400
        iifname eth0 ip saddr 10.50.0.0/16 drop
      }
    }'`;
    const [a, b] = [first.name, second.name];
    await Promise.all([first, second].map((host) => on(host)(drop)));
    const isDirect = (from: Peer, to: Peer) => from.on !== to.on && [a, b].includes(from.on);
    await reachability(
      cluster.containers,
      (from, to) => !(isDirect(from, to) && isDirect(to, from)),
    );
    await page.run('Clouds', on(first));
    await reachability(cluster.containers, 'all');
    await Promise.all([first, second].map((host) => on(host)('nft delete table ip cloud')));
  });

  test('etcd unavailable: the rows of the table', async () => {
    const [first, , third] = hosts;
    await cluster.etcd[0]?.stop();
    await reachability(cluster.containers, 'all');
    await until(first, 'calico-cnm status || true', /FAIL {2}datastore: /);
    assert.notEqual((await first.exec(['calico-cnm', 'node', 'status'])).status, 0);
    const ask = 'docker run --rm --net web busybox wget -qO- api:8080';
    const refused = await first.exec(['sh', '-c', ask]);
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /datastore \S+ is unavailable/);
    const byName = 'docker exec app-1 wget -qO- api:8080';
    assert.equal(await on(first)(byName), 'hello from host-3');
    await third.host.killCalico();
    await third.host.startCalico();
    assert.match(
      await until(third, 'calico-cnm status || true', /FAIL/),
      /FAIL {2}datastore: from a snapshot of /,
    );
    await reachability(cluster.containers, 'all');
    assert.equal(await until(first, byName, /hello/), 'hello from host-3');
    await cluster.etcd[0]?.start();
    assert.equal(await until(first, ask, /hello/), 'hello from host-3');
  });

  test('every command of the page was run', () => page.assertAllWasRun());
});
