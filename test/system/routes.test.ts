import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { eventually } from '../lab/poll.ts';

describe('routes between hosts of one segment', { timeout: 600_000 }, () => {
  let cluster: Cluster;
  const host = (number: 1 | 2 | 3): ClusterHost => cluster.hosts[number - 1] ?? assert.fail();
  before(async () => {
    cluster = await startCluster({ topology: oneSegment(3) });
    await cluster.network('web');
    await cluster.network('other');
    // One block of 64 addresses: the first host with a container has it, the others borrow from it.
    await cluster.network('small', { subnet: '10.70.0.0/26', ipv6: false });
  });
  after(() => cluster[Symbol.asyncDispose]());

  const sh = (on: ClusterHost, script: string) => on.host.run(['sh', '-c', script]);
  const blockRoutes = async (on: ClusterHost) =>
    (await sh(on, 'ip route show proto 82; ip -6 route show proto 82'))
      .split('\n')
      .map((line) => line.trim());
  const until = async (what: string, isSo: () => Promise<boolean>) => {
    assert.ok(await eventually(isSo), what);
  };
  const ofNetwork = (name: string) => (peer: Peer) => peer.name.startsWith(name);

  test('containers reach each other by direct routes, as far as policy lets them', async () => {
    await Promise.all([
      host(1).run('web1', { network: 'web' }),
      host(2).run('web2', { network: 'web' }),
      host(3).run('web3', { network: 'web' }),
      host(1).run('other1', { network: 'other' }),
    ]);
    const isWeb = ofNetwork('web');
    await reachability(cluster.containers, (from, to) => isWeb(from) === isWeb(to));
    const routes = await blockRoutes(host(1));
    for (const { place } of [host(2), host(3)]) {
      for (const gateway of [place.address, place.address6]) {
        const isThere = routes.some((line) => line.includes(` via ${gateway} dev eth0 `));
        assert.ok(isThere, `${gateway} in ${routes.join('\n')}`);
      }
    }
    const own = routes.filter((line) => line.startsWith('blackhole'));
    assert.equal(own.length, 2, 'this host has a block of each family');
    const status = await host(1).calico('status');
    assert.match(status, /ok {4}other hosts: host-2, host-3 by direct routes/);
  });

  test('policy sees a host by its own address on the segment', async () => {
    const server = cluster.containers.find(({ name }) => name === 'web2') ?? assert.fail();
    const peers = [host(1), host(3), server];
    await reachability(peers, (from, to) => from.on !== to.on && to !== server, { ways: ['ping'] });
    const { address, address6 } = host(1).place;
    for (const net of [address, address6]) {
      await host(2).calico(
        'profile',
        'web',
        'rule',
        'add',
        'inbound',
        'allow',
        'from',
        'cidr',
        net,
      );
    }
    await reachability(peers, (from, to) => to !== server || from === host(1));
  });

  test('an address used outside its block is reached from every host, and may move', async () => {
    const [first, second] = ['10.70.0.8', '10.70.0.9'] as const;
    await host(1).run('small1', { network: 'small', address: first });
    await host(2).run('small2', { network: 'small', address: second });
    await host(3).run('small3', { network: 'small' });
    const isSmall = ofNetwork('small');
    const small = () => cluster.containers.filter(isSmall);
    await reachability(small(), 'all');
    const isVia = (on: ClusterHost, gateway: string) => async () =>
      (await sh(on, `ip route show ${second}`)).includes(gateway);
    assert.ok(await isVia(host(1), `via ${host(2).place.address} dev eth0 proto 82`)());
    await host(2).remove('small2');
    await host(3).run('small4', { network: 'small', address: second });
    await until('moved', isVia(host(1), `via ${host(3).place.address} dev eth0 proto 82`));
    await until('moved', isVia(host(2), `via ${host(3).place.address} dev eth0 proto 82`));
    await reachability(small(), 'all');
    for (const name of ['small3', 'small4']) await host(3).remove(name);
    await until('its route is gone', async () => !(await isVia(host(1), 'dev eth0')()));
  });

  test('a restart of the daemon loses no packet', async () => {
    const server = cluster.containers.find(({ name }) => name === 'web2') ?? assert.fail();
    const client = cluster.containers.find(({ name }) => name === 'web1') ?? assert.fail();
    const streams = server.addresses.map((address, index) =>
      client.exec([
        'sh',
        '-c',
        `ping -q -i 0.02 ${address} & p=$!
        while [ ! -e /run/stop${index} ]; do sleep 0.1; done
        kill -INT $p; wait $p`,
      ]),
    );
    await sleep(500);
    await host(1).host.killCalico();
    await host(1).startCalico();
    await host(2).host.killCalico();
    await host(2).startCalico();
    await until('in sync', async () =>
      (await host(1).calico('status')).includes('dataplane: in sync'),
    );
    await sh(host(1), 'touch /run/stop0 /run/stop1');
    for (const { stdout } of await Promise.all(streams)) {
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? [];
      assert.ok(Number(received) > 20 && Number(sent) - Number(received) <= 1, stdout);
    }
  });

  test('routes that other programs remove, or that go with the interface or its address, come back', async () => {
    const { address, address6 } = host(2).place;
    const isThere = async () => {
      const routes = await blockRoutes(host(1));
      return [address, address6].every((gateway) =>
        routes.some((line) => line.includes(` via ${gateway} `)),
      );
    };
    assert.ok(await isThere());
    await sh(host(1), 'ip route flush proto 82; ip -6 route flush proto 82');
    await until('back', isThere);
    // The host's own routes and its IPv6 address are the business of its network manager.
    await sh(
      host(1),
      `r4=$(ip route show default); r6=$(ip -6 route show default)
      ip link set eth0 down; ip link set eth0 up
      ip address add ${host(1).place.address6}/64 dev eth0 nodad
      ip route add $r4; ip -6 route add $r6`,
    );
    await until('back', isThere);
    // The kernel reports no IPv4 route that it removes with the last address.
    await sh(
      host(1),
      `r4=$(ip route show default)
      ip -4 address flush dev eth0
      ip address add ${host(1).place.address}/24 dev eth0
      ip route add $r4`,
    );
    await until('back', isThere);
  });

  test('strict reverse path filtering keeps the packets of other hosts', async () => {
    for (const on of cluster.hosts) {
      await sh(on, 'for i in all eth0; do echo 1 >/proc/sys/net/ipv4/conf/$i/rp_filter; done');
    }
    await reachability(cluster.containers.filter(ofNetwork('web')), 'all');
  });

  test('a node that is deleted takes its routes along', async () => {
    const gateway = host(3).place.address;
    const leads = async () =>
      (await blockRoutes(host(1))).some((line) => line.includes(` via ${gateway} `));
    assert.ok(await leads());
    await host(3).host.killCalico();
    await host(1).calico('node', 'delete', 'host-3', '--force');
    await until('gone', async () => !(await leads()));
    await reachability(
      cluster.containers.filter((peer) => ofNetwork('web')(peer) && peer.on !== 'host-3'),
      'all',
    );
  });
});
