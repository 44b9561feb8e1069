import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { bgpReport, type BgpReport } from '../../src/bird/report.ts';
import { clusterPools, startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import { flowsDuring, pingFlow, tcpFlow } from '../lab/cluster/flows.ts';
import { confdBird, type ConfdPeer } from '../lab/confd-bird.ts';
import { unlessLong } from '../lab/long.ts';
import type { Machine } from '../lab/machine.ts';
import { fenced, Page } from '../lab/page.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { outputOrThrow } from '../lab/process.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { nextLook, patienceMs } from '../lab/poll.ts';

const skip = unlessLong();
const pageFile = 'docs/bgp.md';

/** Starts BIRD on the router of the first segment, as the page has it, which announces networks of its own. */
async function startRouter(machine: Machine, announced: readonly string[]) {
  const config = `
    router id 198.18.1.1;
    protocol device { }
    protocol static own { ipv4; ${announced.map((net) => `route ${net} blackhole;`).join(' ')} }
    ${[11, 12, 13].map((host) => fenced(pageFile, 'bird').replaceAll('host_1', `host_${host}`).replaceAll('198.18.1.11', `198.18.1.${host}`)).join('\n')}
  `;
  writeFileSync(machine.path('/tmp/router.conf'), config);
  const inRouter = ['ip', 'netns', 'exec', 'router'];
  const files = ['-s', '/tmp/router.ctl', '-P', '/tmp/router.pid'];
  await machine.run([...inRouter, 'bird', '-c', '/tmp/router.conf', ...files]);
  const ask = (...command: readonly string[]) =>
    machine.run(['birdc', '-s', '/tmp/router.ctl', ...command]);
  return {
    /** The networks that it has learned. */
    routes: async () => {
      const shown = await ask('show', 'route', 'where', 'source', '=', 'RTS_BGP');
      return [...shown.matchAll(/^([\d.]+\/\d+) /gm)].map(([, net = '']) => net);
    },
    stop: () => ask('down'),
  };
}

describe('three hosts with BGP', { timeout: 600_000 }, () => {
  const page = new Page(pageFile);
  let cluster: Cluster;
  let hosts: readonly [ClusterHost, ClusterHost, ClusterHost];

  before(async () => {
    cluster = await startCluster({ topology: oneSegment(3), routers: true });
    const [one, two, three] = cluster.hosts;
    hosts = [one ?? assert.fail(), two ?? assert.fail(), three ?? assert.fail()];
    await cluster.network('web');
    await Promise.all(hosts.map((host, index) => host.run(`app-${index + 1}`, { network: 'web' })));
    await reachability(cluster.containers, 'all');
  });
  after(() => cluster[Symbol.asyncDispose]());

  /** Runs a command of the page; `bgp status` fails until the sessions are established. */
  const on = (host: ClusterHost) => async (command: string) => {
    const [program, ...argv] = command.replace(' rack.yaml', ' /rack.yaml').split(' ');
    assert.equal(program, 'calico-cnm');
    const { stdout, stderr, status } = await host.tryCalico(...argv);
    assert.ok(status === 0 || command.endsWith('bgp status'), stderr);
    return stdout;
  };

  async function output(peer: Pick<Peer, 'exec'>, command: string): Promise<string> {
    const argv = ['sh', '-c', command];
    return outputOrThrow(argv, await peer.exec(argv));
  }

  /** Polls until a function returns a value; its last failure is that of the test. */
  async function eventually<Value>(get: () => Promise<Value>, ms = patienceMs): Promise<Value> {
    for (const since = Date.now(); ; await nextLook(since)) {
      try {
        return await get();
      } catch (error) {
        if (Date.now() - since > ms) throw error;
      }
    }
  }

  async function report(host: ClusterHost): Promise<BgpReport> {
    const { stdout, stderr } = await host.tryCalico('bgp', 'status', '-o', 'json');
    assert.notEqual(stdout, '', stderr);
    return bgpReport.parse(JSON.parse(stdout));
  }

  const isUp = ({ sessions }: BgpReport, count: number) =>
    assert.deepEqual(
      sessions.map(({ state }) => state),
      Array.from({ length: count }, () => 'Established'),
      JSON.stringify(sessions),
    );

  /** The routes to blocks through other hosts, by protocol. */
  async function routesBy(host: ClusterHost, protocol: 'bird' | '82'): Promise<readonly string[]> {
    const shown = await output(
      host,
      `for f in -4 -6; do ip $f route show proto ${protocol}; done | grep via | cut -d' ' -f1`,
    );
    return shown.split('\n').filter((line) => line !== '');
  }

  async function flows() {
    const [one, two, three] = cluster.containers;
    assert.ok(one && two && three);
    const [v4 = '', v6 = ''] = two.addresses;
    return Promise.all([
      pingFlow(one, two, v4),
      pingFlow(three, two, v6),
      tcpFlow(three, one, one.addresses[0] ?? ''),
    ]);
  }

  test('BGP is enabled without a lost packet, and containers reach each other by its routes alone', async () => {
    const [first] = hosts;
    await flowsDuring(await flows(), async () => {
      await page.run('Switch BGP on', on(first));
      await eventually(async () => {
        for (const host of hosts) {
          isUp(await report(host), 4);
          assert.equal((await routesBy(host, 'bird')).length, 4);
          assert.deepEqual(await routesBy(host, '82'), []);
        }
      });
    });
    await reachability(cluster.containers, 'all');
  });

  test('a node answers a CalicoNodeStatus', async () => {
    const [first, second] = hosts;
    const document = [
      'apiVersion: projectcalico.org/v3',
      'kind: CalicoNodeStatus',
      'metadata: {name: second}',
      'spec: {node: host-2, classes: [Agent, BGP, Routes], updatePeriodSeconds: 1}',
    ].join('\n');
    writeFileSync(first.host.path('/status.yaml'), document);
    await first.calico('apply', '-f', '/status.yaml');
    await eventually(async () => {
      const shown = await first.calico('get', 'caliconodestatus', 'second', '-o', 'yaml');
      assert.match(shown, /birdV4:\n +state: Ready\n +version: 2\./);
      assert.match(shown, /numberEstablishedV4: 2\n/);
      assert.match(shown, /numberEstablishedV6: 2\n/);
      assert.match(shown, new RegExp(`sourceType: NodeMesh\\n +peerIP: ${first.addresses[0]}`));
    });
    await second.calico('delete', 'caliconodestatus', 'second');
  });

  test('only peers can connect to BGP, over IPv4 and IPv6', async () => {
    const [first, second] = hosts;
    const opens = (address: string) => `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/179'`;
    const router = ['ip', 'netns', 'exec', 'router', 'sh', '-c'];
    for (const address of first.addresses) {
      await output(second, opens(address));
      const { status } = await cluster.fabric.machine.exec([...router, opens(address)]);
      assert.equal(status, 124, `a stranger connects to ${address}`);
    }
  });

  test('when BIRD is killed no packet is lost, and it is started again', async () => {
    const [first] = hosts;
    await flowsDuring(await flows(), async () => {
      await output(first, 'kill -KILL $(cat /run/calico/bird/bird.pid)');
      await eventually(async () => isUp(await report(first), 4));
    });
    assert.equal((await routesBy(first, 'bird')).length, 4);
  });

  test('sessions continue when the daemon stops and starts again', async () => {
    const [first] = hosts;
    const before = (await report(first)).sessions;
    await flowsDuring(await flows(), async () => {
      await first.host.stopCalico();
      await first.startCalico();
      await eventually(async () => isUp(await report(first), 4));
    });
    const since = (of: BgpReport['sessions']) => of.map(({ since: at }) => at);
    assert.deepEqual(since((await report(first)).sessions), since(before));
  });

  test('a host that is drained is the last choice of its peers, and no session ends', async () => {
    const [first, , third] = hosts;
    const before = (await report(first)).sessions.map(({ peer, since }) => [peer, since]);
    const drained = async () => {
      const shown = await output(first, 'birdc -s /run/calico/bird/bird.ctl show route all');
      const routes = shown.split(/\n(?=\S|\t?via)/).join('\n');
      return [...routes.matchAll(/BGP\.local_pref: 0\n\s*BGP\.community: \(65535,0\)/g)].length;
    };
    await flowsDuring(await flows(), async () => {
      for (const isDraining of [true, false]) {
        await page.run('Maintenance of a host', async (command) => {
          const printed = await on(first)(command);
          // Its blocks of both families.
          await eventually(async () => assert.equal(await drained(), isDraining ? 2 : 0));
          assert.equal((await report(third)).isDraining, isDraining);
          return printed;
        });
      }
    });
    const now = (await report(first)).sessions.map(({ peer, since }) => [peer, since]);
    assert.deepEqual(now, before);
  });

  /** Replaces calico-cnm on the third host: its BIRD has the configuration of Calico's confd, and Felix is what it left in the kernel. */
  async function withConfd(
    peersOf: (family: 4 | 6) => readonly ConfdPeer[],
    happens: () => Promise<void>,
  ): Promise<void> {
    const [, , third] = hosts;
    const [v4 = '', v6 = ''] = third.addresses;
    await third.host.stopCalico();
    await third.startCalico({ CALICO_BGP: 'off' });
    await eventually(async () => assert.equal((await third.exec(['pidof', 'bird'])).status, 1));
    await third.host.stopCalico();
    const blocks = async (family: 4 | 6) =>
      (await output(third, `ip -${family} route show type blackhole proto 82 | cut -d' ' -f2`))
        .split('\n')
        .filter((line) => line.includes('/'));
    const text = confdBird({
      routerId: v4,
      asNumber: 64_512,
      families: [
        {
          family: 4,
          address: v4,
          blocks: await blocks(4),
          pools: [clusterPools.v4],
          poolsOfFelix: [],
          peers: peersOf(4),
        },
        {
          family: 6,
          address: v6,
          blocks: await blocks(6),
          pools: [clusterPools.v6],
          poolsOfFelix: [],
          peers: peersOf(6),
        },
      ],
    });
    await output(third, 'for f in -4 -6; do ip $f route flush proto 82; done');
    writeFileSync(third.host.path('/tmp/confd.conf'), text);
    await output(third, 'bird -c /tmp/confd.conf -s /tmp/confd.ctl -P /tmp/confd.pid');
    try {
      await happens();
    } finally {
      await output(
        third,
        'birdc -s /tmp/confd.ctl down; for f in -4 -6; do ip $f route flush proto bird; done',
      );
      await third.startCalico();
    }
  }

  const toHosts =
    (
      names: readonly string[],
      kind: ConfdPeer['kind'],
      options: Pick<ConfdPeer, 'clusterId'> = {},
    ) =>
    (family: 4 | 6): readonly ConfdPeer[] =>
      hosts
        .filter(({ name }) => names.includes(name))
        .map(({ addresses: [v4 = '', v6 = ''] }) => ({
          kind,
          address: family === 4 ? v4 : v6,
          asNumber: 64_512,
          ...options,
        }));

  /** All hosts have routes of BIRD to the blocks of both others, and only those. */
  async function routesAreOfBird(): Promise<void> {
    for (const host of hosts) {
      const shown = await routesBy(host, 'bird');
      assert.equal(shown.length, 4, `${host.name}: ${shown.join(' ')}`);
      assert.deepEqual(await routesBy(host, '82'), []);
    }
  }

  test(
    'a node whose BIRD has the configuration of confd is one of the mesh',
    { skip },
    async () => {
      const [first, second] = hosts;
      await withConfd(toHosts(['host-1', 'host-2'], 'Mesh'), async () => {
        await eventually(async () => {
          for (const host of [first, second]) isUp(await report(host), 4);
          await routesAreOfBird();
        });
        await reachability(cluster.containers, 'all');
      });
      await eventually(async () => {
        for (const host of hosts) isUp(await report(host), 4);
        await routesAreOfBird();
      });
    },
  );

  test('no session ends by changes that do not concern it', { skip }, async () => {
    const [first] = hosts;
    const since = async () =>
      (await report(first)).sessions
        .filter(({ type }) => type === 'node-to-node mesh')
        .map(({ peer, since: at, state }) => [peer, at, state]);
    const before = await since();
    assert.equal(before.length, 4);
    const header = 'apiVersion: projectcalico.org/v3\n';
    const filter = (n: number) =>
      `${header}kind: BGPFilter\nmetadata: {name: some}\nspec: {importV4: [{action: Reject, matchOperator: In, cidr: 10.${n}.0.0/16}]}\n`;
    const other = (n: number) =>
      `${header}kind: BGPPeer\nmetadata: {name: other}\nspec: {node: host-1, peerIP: 198.18.1.${100 + (n % 3)}, asNumber: ${65_000 + n}, filters: [some]}\n`;
    const pool = (n: number) =>
      `${header}kind: IPPool\nmetadata: {name: more-${n % 4}}\nspec: {cidr: 10.8${n % 4}.0.0/16, disableBGPExport: ${n % 2 === 0}}\n`;
    for (let n = 0; n < 200; n++) {
      const document = [filter, other, pool][n % 3]?.(n) ?? '';
      writeFileSync(first.host.path('/change.yaml'), document);
      await first.calico('apply', '-f', '/change.yaml');
      if (n % 6 === 5) await first.run(`more-${n}`, { network: 'web' });
    }
    await eventually(async () => {
      const { sessions } = await report(first);
      assert.ok(sessions.some(({ peer, as }) => peer === '198.18.1.101' && as === 65_199));
      const config = await output(first, 'cat /run/calico/bird/bird.conf');
      assert.match(config, /10\.198\.0\.0\/16\+/);
    });
    assert.deepEqual(await since(), before);
    for (let n = 5; n < 200; n += 6) await first.remove(`more-${n}`);
    await first.calico('delete', 'bgppeer', 'other');
    await first.calico('delete', 'bgpfilter', 'some');
  });

  test('the mesh is replaced by a route reflector without a lost packet', { skip }, async () => {
    const [first, second, third] = hosts;
    await flowsDuring(await flows(), async () => {
      await page.run('Route reflectors', async (command) => {
        const printed = await on(first)(command);
        await eventually(async () => {
          const count = command.includes('mesh off') ? 2 : 4;
          for (const host of [first, second]) isUp(await report(host), count);
        });
        return printed;
      });
      await eventually(async () => {
        isUp(await report(first), 2);
        isUp(await report(second), 2);
        isUp(await report(third), 4);
        for (const host of hosts) {
          assert.equal((await routesBy(host, 'bird')).length, 4);
          assert.deepEqual(await routesBy(host, '82'), []);
        }
      });
    });
    await reachability(cluster.containers, 'all');
  });

  for (const reflector of ['host-3', 'host-1'] as const) {
    const is = reflector === 'host-3' ? 'is the reflector' : 'is a client';
    test(`a node whose BIRD has the configuration of confd ${is}`, { skip }, async () => {
      const [first, second, third] = hosts;
      // The reflector of the test before is the third host; another one takes its place.
      if (reflector === 'host-1') {
        await first.calico('bgp', 'reflector', 'add', 'host-1');
        await first.calico('bgp', 'reflector', 'remove', 'host-3');
      }
      const peers =
        reflector === 'host-3'
          ? toHosts(['host-1', 'host-2'], 'Node', { clusterId: '244.0.0.1' })
          : toHosts(['host-1'], 'Node');
      await withConfd(peers, async () => {
        await eventually(async () => {
          isUp(await report(first), reflector === 'host-1' ? 4 : 2);
          isUp(await report(second), 2);
          await routesAreOfBird();
        });
        await reachability(cluster.containers, 'all');
      });
      await eventually(async () => {
        isUp(await report(third), reflector === 'host-3' ? 4 : 2);
        await routesAreOfBird();
      });
    });
  }

  test('a router learns blocks and nothing else; its routes are used, and override nothing of the host', async () => {
    const [first] = hosts;
    const [own = ''] = cluster.containers[0]?.addresses ?? [];
    const router = await startRouter(cluster.fabric.machine, [
      '203.0.113.0/24',
      // Would take traffic of this host's container, and of its neighbours on the network.
      `${own}/32`,
      '198.18.1.0/25',
      '198.18.1.12/32',
    ]);
    const document = fenced(pageFile, 'yaml');
    writeFileSync(first.host.path('/rack.yaml'), document);
    await page.run('A top-of-rack router', on(first));
    try {
      await eventually(async () => {
        const learned = await router.routes();
        const blocks = await output(
          first,
          'ip -4 route show proto bird | grep ^10.64. | cut -d" " -f1',
        );
        for (const block of blocks.split('\n'))
          assert.ok(learned.includes(block), learned.join(' '));
        const known = await output(first, 'ip -4 route show 203.0.113.0/24');
        assert.match(known, /via 198\.18\.1\.1 dev eth0 proto bird metric 1024/);
      });
      const strange = (await router.routes()).filter((net) => !net.startsWith('10.64.'));
      assert.deepEqual(strange, [], 'only addresses of IP pools are announced');
      const routes = await output(first, 'ip -4 route show proto bird');
      assert.doesNotMatch(routes, new RegExp(`^${own} |^198\\.18\\.`, 'm'));
      const [, second] = hosts;
      assert.equal(await output(second, `ip -4 route show ${own}/32`), '');
      await reachability(cluster.containers, 'all');
      // A wrong AS number is named as what it is, on both sides.
      const wrong = document.replace('65001', '65009');
      writeFileSync(first.host.path('/rack.yaml'), wrong);
      await first.calico('apply', '-f', '/rack.yaml');
      await eventually(async () => {
        const peer = (await report(first)).sessions.find(
          ({ peer: address }) => address === '198.18.1.1',
        );
        assert.match(peer?.why ?? '', /has another AS number than 65009|expects another AS number/);
      });
      assert.match((await first.tryCalico('status')).stdout, /FAIL\s+BGP/);
    } finally {
      await first.calico('delete', 'bgppeer', 'rack');
      await router.stop();
    }
    await eventually(async () => {
      assert.equal(await output(first, 'ip -4 route show 203.0.113.0/24'), '');
    });
  });

  test('BGP is disabled without a lost packet, and nothing of it is left', async () => {
    const [first] = hosts;
    await flowsDuring(await flows(), async () => {
      await page.run('Switch BGP off', on(first));
      await eventually(async () => {
        for (const host of hosts) {
          assert.deepEqual(await routesBy(host, 'bird'), []);
          assert.equal((await routesBy(host, '82')).length, 4);
          assert.equal((await host.exec(['pidof', 'bird'])).status, 1);
        }
      });
    });
    if (skip === false) page.assertAllWasRun();
  });
});
