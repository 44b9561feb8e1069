import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { builtProgram } from '../lab/built.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import type { Engine } from '../lab/engine.ts';
import { coreAddress, oneSegment, twoSubnets, type Topology } from '../lab/cluster/fabric.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { words } from '../lab/words.ts';

/** Hosts with Docker for the tests of a suite. */
function threeHosts(docker: Engine, topology: Topology) {
  let cluster: Cluster | undefined;
  before(async () => {
    await builtProgram();
    cluster = await startCluster({ topology, docker });
  });
  after(() => cluster?.[Symbol.asyncDispose]());
  return () => {
    const [first, second, third] = cluster?.hosts ?? [];
    assert.ok(cluster && first && second && third);
    return { cluster, first, second, third };
  };
}

async function eventually(what: string, isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await isTrue())) {
    assert.ok(Date.now() < deadline, what);
    await sleep(200);
  }
}

/** Returns the IDs of Docker's networks of a name. */
async function networkIds({ host }: ClusterHost, name: string): Promise<readonly string[]> {
  const listed = await host.docker('network', 'ls', '--no-trunc', '--format', '{{.ID}} {{.Name}}');
  return listed.split('\n').flatMap((line) => {
    const [id = '', shown] = line.split(' ');
    return shown === name ? [id] : [];
  });
}

/** Waits until the host has exactly this many networks of the name. */
function hasNetworks(host: ClusterHost, name: string, count: number): Promise<void> {
  const what = `${host.name} must have ${count} networks ${name}`;
  return eventually(what, async () => (await networkIds(host, name)).length === count);
}

describe('a network of all hosts, Docker 28.5', { timeout: 400_000 }, () => {
  const lab = threeHosts('28.5', twoSubnets(2, 1));

  test('it is created on every host, and containers reach each other on addresses of one pool', async () => {
    const { cluster, first, second, third } = lab();
    const shown = await first.calico('network', 'create', 'web', '--subnet', '10.50.0.0/16');
    assert.match(shown, /host-1 +created\nhost-2 +created\nhost-3 +created/);
    assert.doesNotMatch(shown, /warning/);
    await first.run('one', { network: 'web' });
    await second.run('two', { network: 'web' });
    await third.run('three', { network: 'web' });
    for (const { addresses } of cluster.containers) assert.match(addresses.join(), /^10\.50\./);
    await reachability(cluster.containers, 'all');
    assert.match(await first.calico('get', 'ippool'), /10\.50\.0\.0\/16 .*CrossSubnet/);
  });

  test('rm is refused with the containers of all hosts, and removes it when there are none', async () => {
    const { first, second, third } = lab();
    const { status, stderr } = await second.tryCalico('network', 'rm', 'web');
    assert.equal(status, 1);
    assert.match(stderr, /in use by one on host-1, three on host-3, two on host-2/);
    assert.equal((await networkIds(third, 'web')).length, 1);
    await first.remove('one');
    await second.remove('two');
    await third.remove('three');
    assert.equal((await second.calico('network', 'rm', 'web')).trim(), 'web');
    for (const host of [first, second, third]) await hasNetworks(host, 'web', 0);
    // The last host deletes it, also if all remove the network at the same time.
    assert.doesNotMatch(await first.calico('get', 'ippool'), /10\.50\./);
  });

  test('a host that was away creates and removes what was defined and removed meanwhile', async () => {
    const { first, third } = lab();
    await first.calico('network', 'create', 'early');
    await third.host.killCalico();
    const shown = await first.calico('network', 'create', 'late', '--wait', '1', '-o', 'mtu=1380');
    assert.match(shown, /host-3 +away/);
    assert.match(await first.calico('network', 'rm', 'early', '--wait', '1'), /still on host-3/);
    await hasNetworks(first, 'early', 0);
    assert.equal((await networkIds(third, 'early')).length, 1);
    await third.startCalico();
    await hasNetworks(third, 'late', 1);
    await hasNetworks(third, 'early', 0);
    await eventually('host-3 reports both', async () => {
      const listed = await first.calico('network', 'ls');
      return /late .*3\/3/.test(listed) && !/early/.test(listed);
    });
    await first.calico('network', 'rm', 'late');
  });

  test('a network that differs is reported and kept; an equal one is adopted', async () => {
    const { first, second, third } = lab();
    await first.network('own', { subnet: '10.52.0.0/16', ipv6: false });
    await second.host.docker('network', 'create', 'own');
    const [before, kept] = [await networkIds(first, 'own'), await networkIds(second, 'own')];
    const { status, stdout } = await third.tryCalico(
      ...words`network create own --subnet 10.52.0.0/16`,
    );
    assert.equal(status, 1);
    assert.match(stdout, /host-1 +created\nhost-2 +differs: driver is bridge.*\nhost-3 +created/);
    assert.deepEqual(await networkIds(first, 'own'), before);
    assert.deepEqual(await networkIds(second, 'own'), kept);
    await third.calico('network', 'rm', 'own');
    await hasNetworks(first, 'own', 0);
    assert.deepEqual(await networkIds(second, 'own'), kept);
  });

  test('Compose uses it as an external network, and docker network rm does not last', async () => {
    const { first, second } = lab();
    await first.calico('network', 'create', 'shared', '--subnet', '10.53.0.0/16');
    const input = [
      'services: {app: {image: calico-test, pull_policy: never, command: sleep 1d, networks: [shared]}}',
      'networks: {shared: {external: true}}',
      '',
    ].join('\n');
    const compose = async (host: ClusterHost, ...argv: readonly string[]) =>
      host.host.run(['docker', 'compose', '-p', host.name, '-f', '/root/shared.yaml', ...argv]);
    for (const host of [first, second]) {
      await host.host.run(['sh', '-c', 'cat >/root/shared.yaml'], { input });
      await compose(host, 'up', '-d');
    }
    const { stderr } = await first.tryCalico('network', 'rm', 'shared');
    assert.match(stderr, /host-1-app-1 on host-1, host-2-app-1 on host-2/);
    for (const host of [first, second]) await compose(host, 'down', '-t', '0');
    const [id] = await networkIds(second, 'shared');
    await second.host.docker('network', 'rm', 'shared');
    await eventually('host-2 creates it again', async () => {
      const [again] = await networkIds(second, 'shared');
      return again !== undefined && again !== id;
    });
    await first.calico('network', 'rm', 'shared');
  });

  test('an internal network of all hosts connects its containers, and nothing else', async () => {
    const { first, second, third } = lab();
    const outside = coreAddress(1);
    await first.calico(...words`network create inner --internal --subnet 10.55.0.0/16`);
    await first.calico(...words`network create outer --subnet 10.56.0.0/16`);
    const inner = await Promise.all(
      [first, second, third].map((host) => host.run(`inner-${host.name}`, { network: 'inner' })),
    );
    const outer = await third.run('outer', { network: 'outer' });
    await reachability([...inner, outer], (from, to) => (from === outer) === (to === outer));
    const pings = async (from: Peer) =>
      (await from.exec(['ping', '-c', '1', '-W', '1', outside])).status === 0;
    await eventually('the other network leads out', () => pings(outer));
    for (const peer of inner) assert.equal(await pings(peer), false, peer.name);
    // Not even to the host that it reaches its peers through.
    const [one] = inner;
    assert.ok(one);
    for (const host of [first, second, third]) {
      const { address } = host.place;
      assert.notEqual((await one.exec(['ping', '-c', '1', '-W', '1', address])).status, 0, address);
    }
    for (const host of [first, second, third]) await host.remove(`inner-${host.name}`);
    await third.remove('outer');
    for (const name of ['inner', 'outer']) await first.calico('network', 'rm', name);
  });

  test('a published port is reached from the other hosts and from their containers', async () => {
    const { first, second, third } = lab();
    await first.calico(...words`network create ports --subnet 10.57.0.0/16`);
    await first.host.docker(
      ...words`run -d --name served --net ports -p 8085:8080 calico-test httpd -f -p 8080 -h /www`,
    );
    const client = await third.run('client', { network: 'ports' });
    const near = await first.run('near', { network: 'ports' });
    const ask = `exec 3<>/dev/tcp/${first.place.address}/8085; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
    for (const peer of [second, third, client, near]) {
      await eventually(`${peer.name} gets the page`, async () => {
        const { stdout } = await peer.exec(['timeout', '2', 'bash', '-c', ask]);
        return stdout.trim().endsWith('hello');
      });
    }
    await first.host.docker('rm', '-f', 'served');
    await third.remove('client');
    await first.remove('near');
    await first.calico('network', 'rm', 'ports');
  });

  test('networks created by hand on two hosts share pool and Profile', async () => {
    const { first, second } = lab();
    const spec = { subnet: '10.54.0.0/24', ipv6: false };
    await Promise.all([first.network('hand', spec), second.network('hand', spec)]);
    const one = await first.run('by-hand-1', { network: 'hand' });
    const two = await second.run('by-hand-2', { network: 'hand' });
    const addresses = [...one.addresses, ...two.addresses];
    assert.equal(new Set(addresses).size, 2);
    for (const address of addresses) assert.match(address, /^10\.54\.0\./);
    assert.equal((await first.calico('get', 'ippool')).match(/10\.54\./g)?.length, 1);
    await reachability([one, two], 'all');
    await first.remove('by-hand-1');
    await second.remove('by-hand-2');
    const other = await second.host.exec(
      words`docker network create -d calico --ipam-driver calico-ipam --subnet 10.54.0.0/16 other`,
    );
    assert.match(other.stderr, /overlaps/);
    for (const host of [first, second]) await host.removeNetwork('hand');
  });
});

describe('a network of all hosts, Docker 20.10', { timeout: 300_000 }, () => {
  const lab = threeHosts('20.10', oneSegment(3));

  test('concurrent creates, by command and by hand, leave one network per host', async () => {
    const { cluster, first, third } = lab();
    const argv = ['network', 'create', 'busy', '--subnet', '10.50.0.0/16'];
    const byHand = ['-d', 'calico', '--ipam-driver', 'calico-ipam', '--subnet', '10.50.0.0/16'];
    await Promise.all([
      ...cluster.hosts.map((host) => host.tryCalico(...argv)),
      ...[1, 2].map(() => first.host.exec(['docker', 'network', 'create', ...byHand, 'other'])),
      third.host.exec(['docker', 'network', 'create', ...byHand, 'busy']),
    ]);
    for (const host of cluster.hosts) await hasNetworks(host, 'busy', 1);
    await eventually('all hosts report it', async () =>
      /busy .*3\/3/.test(await first.calico('network', 'ls')),
    );
    await first.run('one', { network: 'busy' });
    await third.run('three', { network: 'busy' });
    await reachability(cluster.containers, 'all');
    await first.remove('one');
    await third.remove('three');
    await first.calico('network', 'rm', 'busy');
    for (const host of cluster.hosts) await hasNetworks(host, 'busy', 0);
  });
});
