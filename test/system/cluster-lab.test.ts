import assert from 'node:assert/strict';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { builtProgram, checkout } from '../lab/built.ts';
import { tracked } from '../lab/children.ts';
import { startCluster, type Cluster, type ClusterOptions } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { coreAddress, oneSegment, twoRacks, twoSubnets } from '../lab/cluster/fabric.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { outputOf, ownEnvironment } from '../lab/process.ts';
import { differences, reachability, type Attempt } from '../lab/cluster/reachability.ts';

/** A cluster of three hosts for the tests of a suite. */
function threeHosts(options: ClusterOptions) {
  let cluster: Cluster | undefined;
  let startMs = 0;
  before(async () => {
    await builtProgram();
    const started = performance.now();
    cluster = await startCluster(options);
    startMs = Math.round(performance.now() - started);
  });
  after(() => cluster?.[Symbol.asyncDispose]());
  return () => {
    const [first, second, third] = cluster?.hosts ?? [];
    assert.ok(cluster && first && second && third);
    return { cluster, first, second, third, startMs };
  };
}

const isAlone = (lonely: Peer) => (from: Peer, to: Peer) => from !== lonely && to !== lonely;

async function opens(from: Peer, address: string, port: number): Promise<boolean> {
  const connect = ['bash', '-c', `exec 3<>/dev/tcp/${address}/${port}`];
  return (await from.exec(['timeout', '2', ...connect])).status === 0;
}

/** Returns the number of ping requests that the host has received. */
async function pingsReceived(host: ClusterHost): Promise<number> {
  const counters = await host.host.run(['grep', '^IcmpMsg:', '/proc/net/snmp']);
  const [names = [], values = []] = counters.split('\n').map((line) => line.split(' '));
  return Number(values[names.indexOf('InType8')] ?? 0);
}

/** Pings once, and returns the TTL and the round trip in milliseconds of the reply. */
async function ping(from: ClusterHost, to: ClusterHost, family: 4 | 6 = 4) {
  const address = family === 4 ? to.place.address : to.place.address6;
  const { stdout } = await from.exec(['ping', '-c', '1', '-w', '10', address]);
  const [, ttl, ms] = /ttl=(\d+) time=([\d.]+) ms/.exec(stdout) ?? [];
  return { ttl: Number(ttl), ms: Number(ms) };
}

describe('hosts on one segment, without Docker', { timeout: 300_000 }, () => {
  const lab = threeHosts({ topology: oneSegment(3), disks: true });

  test('they reach each other without a router', async (context) => {
    const { cluster, first, third, startMs } = lab();
    context.diagnostic(`three hosts without Docker started in ${startMs} ms`);
    await reachability(cluster.hosts, 'all');
    for (const family of [4, 6] as const) assert.equal((await ping(first, third, family)).ttl, 64);
  });

  test('containers of a network on one host reach each other, and not those of another network', async () => {
    const { cluster, first } = lab();
    await Promise.all([cluster.network('web'), cluster.network('other', { ipv6: false })]);
    await Promise.all([
      ...['one', 'two'].map((name) => first.run(name, { network: 'web' })),
      first.run('stranger', { network: 'other' }),
    ]);
    await reachability(first.containers, ({ name }, to) => ![name, to.name].includes('stranger'));
  });

  test('a removed container leaves no endpoint', async () => {
    const { first } = lab();
    await first.remove('stranger');
    assert.doesNotMatch(await first.calico('get', 'workloadendpoint'), /stranger/);
    await reachability(first.containers, 'all');
  });

  test('a host that is cut off reaches nobody until the cable is mended', async () => {
    const { cluster, third } = lab();
    await third.cable.cut();
    await reachability(cluster.hosts, isAlone(third));
    await assert.rejects(
      reachability(cluster.hosts, 'all', { patienceMs: 0 }),
      /host-1 must reach host-3 \(198\.18\.1\.13\), and ping does not: no reply[^]*host-3 must reach host-2/,
    );
    await third.cable.mend();
    await reachability(cluster.hosts, 'all');
  });

  for (const [way, arrives] of [
    ['from host', false],
    ['to host', true],
  ] as const) {
    test(`with the way ${way} cut, its requests ${arrives ? 'arrive' : 'do not arrive'}`, async () => {
      const { first, third } = lab();
      // Without a neighbour entry nothing would be sent.
      await ping(third, first);
      await third.cable.cut({ way });
      const received = await pingsReceived(first);
      const { status } = await third.exec(['ping', '-c', '1', '-w', '1', first.place.address]);
      assert.notEqual(status, 0);
      assert.equal((await pingsReceived(first)) > received, arrives);
      await third.cable.mend();
      assert.equal((await ping(third, first)).ttl, 64);
    });
  }

  test('with one port cut, everything else passes', async () => {
    const { cluster, second, third } = lab();
    await third.cable.cut({ port: 2379 });
    await reachability(cluster.hosts, 'all');
    assert.equal(await opens(third, coreAddress(1), 2379), false);
    assert.equal(await opens(second, coreAddress(1), 2379), true);
    await third.cable.mend();
    assert.equal(await opens(third, coreAddress(1), 2379), true);
  });

  test('a slow cable delays each packet, loses some, and can be cut as well', async () => {
    const { cluster, first, third } = lab();
    await third.cable.slow({ delayMs: 60 });
    assert.ok((await ping(first, third)).ms >= 120);
    assert.ok((await ping(third, first, 6)).ms >= 120);
    const serve =
      'mkdir /run/bulk; head -c 1M /dev/zero >/run/bulk/file; busybox httpd -p 8090 -h /run/bulk';
    await first.host.run(['sh', '-ec', serve]);
    const fetch = `busybox wget -qO- http://${first.place.address}:8090/file | wc -c`;
    const got = await third.host.run(['timeout', '30', 'sh', '-c', fetch]);
    assert.equal(Number(got), 1024 * 1024, 'a bulk transfer arrives whole');
    await third.cable.cut({ way: 'from host' });
    await reachability(cluster.hosts, isAlone(third));
    await third.cable.mend();
    assert.ok((await ping(first, third)).ms < 120);
    await third.cable.slow({ lossPercent: 50 });
    const fast = ['ping', '-q', '-i', '0.01', '-c', '200', '-W', '1', third.place.address];
    const { stdout } = await first.exec(fast);
    const lost = Number(/([\d.]+)% packet loss/.exec(stdout)?.[1]);
    assert.ok(lost > 30 && lost < 99, stdout);
    await third.cable.mend();
    await reachability(cluster.hosts, 'all');
  });

  test('calico-cnm that is killed comes back, and containers are reachable meanwhile', async () => {
    const { first } = lab();
    await first.host.killCalico();
    await reachability(first.containers, 'all');
    await first.startCalico();
    await first.run('three', { network: 'web' });
    await reachability(first.containers, 'all');
  });

  test('a host that is switched off and on is itself again, at its place', async () => {
    const { cluster, third } = lab();
    await third.host.run(['touch', '/var/lib/calico/kept']);
    await third.switchOff();
    const others = cluster.hosts.filter((host) => host !== third);
    for (const host of others) assert.equal(await opens(host, third.place.address, 22), false);
    await reachability(others, 'all');
    await third.switchOn();
    await reachability(cluster.hosts, 'all');
    await third.host.run(['test', '-e', '/var/lib/calico/kept']);
  });
});

describe('hosts in two subnets with three members of etcd', { timeout: 300_000 }, () => {
  const lab = threeHosts({ topology: twoSubnets(2, 1), etcdMembers: 3 });

  test('subnets are connected by one router', async () => {
    const { cluster, first, second, third } = lab();
    await reachability(cluster.hosts, 'all');
    for (const family of [4, 6] as const) {
      assert.equal((await ping(first, second, family)).ttl, 64);
      assert.equal((await ping(first, third, family)).ttl, 63);
    }
  });

  test('members of etcd can be stopped, stalled and started', async () => {
    const { cluster, first } = lab();
    const [one, two] = cluster.etcd;
    assert.ok(one && two);
    const write = async (name: string) => {
      const { status, stdout, stderr } = await first.tryCalico('profile', 'add', name);
      return status === 0 ? '' : `${stdout}${stderr}`;
    };
    const eventuallyWrite = async (name: string) => {
      const deadline = Date.now() + 30_000;
      let error = await write(name);
      while (error !== '' && Date.now() < deadline) error = await write(name);
      assert.equal(error, '');
    };
    await one.stop();
    await eventuallyWrite('with-two');
    two.stall();
    assert.match(await write('with-one'), /etcd|datastore/);
    two.resume();
    await one.start();
    await eventuallyWrite('with-three');
    assert.equal(one.etcdctl('member', 'list').match(/started/g)?.length, 3);
  });
});

describe('hosts in two racks with Docker', { timeout: 300_000 }, () => {
  const lab = threeHosts({ topology: twoRacks(2, 1), docker: '20.10' });

  test('racks are connected by two routers', async (context) => {
    const { cluster, first, second, third, startMs } = lab();
    context.diagnostic(`three hosts with Docker started in ${startMs} ms`);
    await reachability(cluster.hosts, 'all');
    for (const family of [4, 6] as const) {
      assert.equal((await ping(first, second, family)).ttl, 64);
      assert.equal((await ping(first, third, family)).ttl, 62);
    }
  });

  test('containers on one host reach each other', async () => {
    const { cluster, first } = lab();
    await cluster.network('web', { subnet: '10.50.0.0/16', ipv6: false });
    await Promise.all(['one', 'two'].map((name) => first.run(name, { network: 'web' })));
    await reachability(first.containers, 'all');
  });
});

test('the failure of a matrix names the pairs that differ, in both ways', () => {
  const peer = (name: string, on: string, address: string): Peer => ({
    name,
    on,
    addresses: [address],
    serves: true,
    exec: () => Promise.reject(new Error('not asked')),
  });
  const app = peer('app', 'host-1', '10.64.0.1');
  const client = peer('client', 'host-3', '10.64.0.2');
  const host = peer('host-3', 'host-3', '198.18.1.13');
  const attempts: readonly Attempt[] = [
    { from: app, to: client, address: '10.64.0.2', way: 'ping', result: 'reply', reached: true },
    {
      from: client,
      to: app,
      address: '10.64.0.1',
      way: 'tcp',
      result: 'no answer',
      reached: false,
    },
    { from: host, to: app, address: '10.64.0.1', way: 'ping', result: 'reply', reached: true },
  ];
  assert.deepEqual(differences(attempts, 'all'), [
    'client on host-3 must reach app on host-1 (10.64.0.1), and tcp does not: no answer',
  ]);
  assert.deepEqual(
    differences(attempts, (from, to) => from !== host && to !== client),
    [
      'app on host-1 must not reach client on host-3 (10.64.0.2), and ping does',
      'client on host-3 must reach app on host-1 (10.64.0.1), and tcp does not: no answer',
      'host-3 must not reach app on host-1 (10.64.0.1), and ping does',
    ],
  );
  assert.equal(differences(attempts, 'none').length, 2);
});

test('a test that is killed leaves nothing of its cluster', { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-crash-'));
  const script = `
    import { startCluster } from '${checkout}/test/lab/cluster/cluster.ts';
    import { oneSegment } from '${checkout}/test/lab/cluster/fabric.ts';
    const cluster = await startCluster({ topology: oneSegment(1), disks: true });
    await cluster.network('web');
    await cluster.hosts[0].run('app', { network: 'web' });
    await cluster.hosts[0].cable.slow({ delayMs: 1 });
    process.kill(process.pid, 'SIGKILL');`;
  const { NODE_TEST_CONTEXT: _, ...environment } = ownEnvironment();
  const env = { ...environment, TMPDIR: folder };
  const argv = ['--input-type=module-typescript', '-e', script];
  const run = tracked('killed', spawn(process.execPath, argv, { env, stdio: 'inherit' }));
  await once(run, 'exit');
  assert.equal(run.signalCode, 'SIGKILL');
  const leftovers = async () => {
    const lines = (await outputOf([`${checkout}/test/leftovers`], { env })).split('\n');
    // Other tests may be ending at this moment.
    const isOfOther = /[0-9a-f]{64}|calico-[a-z]+-(?!PID-)\d+/.source.replace('PID', `${run.pid}`);
    return lines.filter((line) => line !== '' && !new RegExp(isOfOther).test(line));
  };
  const deadline = Date.now() + 60_000;
  while ((await leftovers()).length > 0 && Date.now() < deadline) await sleep(100);
  assert.deepEqual(await leftovers(), []);
  rmSync(folder, { recursive: true });
});
