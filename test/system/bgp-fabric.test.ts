import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test, type TestContext } from 'node:test';
import { z } from 'zod';
import { bgpReport } from '../../src/bird/report.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { dualRacks } from '../lab/cluster/fabric.ts';
import { pingFlow, type Flow } from '../lab/cluster/flows.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { Frr } from '../lab/frr.ts';
import { unlessLong } from '../lab/long.ts';
import { fenced, Page } from '../lab/page.ts';
import { patienceMs } from '../lab/poll.ts';
import { outputOrThrow } from '../lab/process.ts';

const pageFile = 'docs/bgp-fabric.md';

/** The switches of docs/bgp-fabric.md: the core address ends with 101 and so on, the third byte of the others is the rack. */
const switches = [
  { name: 'rack-1a', core: 101, rack: 1, v4: '198.18.1', v6: '2001:db8:18:1::' },
  { name: 'rack-1b', core: 102, rack: 1, v4: '198.19.1', v6: '2001:db8:19:1::' },
  { name: 'rack-2a', core: 103, rack: 2, v4: '198.18.2', v6: '2001:db8:18:2::' },
  { name: 'rack-2b', core: 104, rack: 2, v4: '198.19.2', v6: '2001:db8:19:2::' },
] as const;
type Switch = (typeof switches)[number];
type Pair = { readonly from: Peer; readonly to: Peer };
const [first] = switches;

const fencedOf = (word: string) => fenced(pageFile, word);

/** Returns a configuration of the first switch with the numbers of another one. */
function configOf({ core, rack, v4, v6 }: Switch, text: string): string {
  // The same permutation for itself and for its neighbours.
  const cores = new Map(
    switches.map((one) => [String(one.core), String(101 + ((one.core - 101) ^ (core - 101)))]),
  );
  return text
    .replaceAll(/192\.0\.2\.(10\d)/g, (_, number: string) => `192.0.2.${cores.get(number)}`)
    .replaceAll(/\bto_(10\d)/g, (_, number: string) => `to_${cores.get(number)}`)
    .replaceAll(/6500[12]/g, (as) => (rack === 1 ? as : as === '65001' ? '65002' : '65001'))
    .replaceAll(first.v4, v4)
    .replaceAll(first.v6, v6);
}

/** Returns a BGPPeer for a switch, over IPv4 or IPv6. */
function peerOf(
  one: Switch,
  family: 4 | 6,
  spec: Readonly<Record<string, number | undefined>> = {},
): string {
  const text = fencedOf('yaml')
    .replace('name: rack-1a', `name: ${one.name}-v${family}`)
    .replace('rack == "1"', `rack == "${one.rack}"`)
    .replace('198.18.1.1', family === 4 ? `${one.v4}.1` : `"${one.v6}1"`)
    .replace('65001', `6500${one.rack}`);
  return Object.entries(spec).reduce(
    (changed, [field, value]) =>
      value === undefined
        ? changed.replace(new RegExp(`^  ${field}: .*\n`, 'm'), '')
        : changed.replace(new RegExp(`^  ${field}: .*$`, 'm'), `  ${field}: ${value}`),
    text,
  );
}

/** Two racks with two switches each, which know nothing of containers but by BGP; pools without encapsulation. */
const skip = unlessLong();

describe('hosts with two uplinks in a fabric', { timeout: 600_000 }, () => {
  const page = new Page(pageFile);
  let cluster: Cluster;
  let hosts: readonly ClusterHost[];

  before(async () => {
    cluster = await startCluster({
      topology: dualRacks(2, 1),
      routers: true,
      settings: { CALICO_IPV4POOL_VXLAN: 'Never', CALICO_IPV6POOL_VXLAN: 'Never' },
    });
    hosts = cluster.hosts;
    await cluster.network('web');
    await Promise.all(
      hosts.map(async (host, index) => {
        const file = host.host.path('/etc/calico/bgp-passwords/bgp/racks');
        mkdirSync(file.replace(/\/racks$/, ''), { recursive: true });
        writeFileSync(file, 'of-the-racks', { mode: 0o600 });
        for (const number of [1, 2, 3])
          await host.run(`app-${index + 1}${number}`, { network: 'web' });
      }),
    );
    await labelRacks();
    // The strictest: a packet must come by an interface that is a way back.
    await reversePathFilter(1);
  });
  after(() => cluster[Symbol.asyncDispose]());

  const admin = () => hosts[0] ?? assert.fail();
  const nodeType = z.looseObject({ metadata: z.looseObject({}) });
  async function labelRacks(): Promise<void> {
    for (const { name, place } of hosts) {
      const shown = await admin().calico('get', 'node', name, '-o', 'json');
      const node = nodeType.parse(JSON.parse(shown));
      const labels = { rack: String(place.segment + 1) };
      await apply([JSON.stringify({ ...node, metadata: { ...node.metadata, labels } })]);
    }
  }

  async function apply(documents: readonly string[]): Promise<void> {
    writeFileSync(admin().host.path('/racks.yaml'), documents.join('\n---\n'));
    await admin().calico('apply', '-f', '/racks.yaml');
  }

  async function output(peer: Pick<Peer, 'exec'>, command: string): Promise<string> {
    const argv = ['sh', '-c', command];
    return outputOrThrow(argv, await peer.exec(argv));
  }

  const inSwitch = (name: string) => ({
    exec: (argv: readonly string[]) =>
      cluster.fabric.machine.exec(['ip', 'netns', 'exec', name, ...argv]),
  });

  async function eventually<Value>(
    get: () => Promise<Value>,
    patience = patienceMs,
  ): Promise<Value> {
    const deadline = Date.now() + patience;
    for (;;) {
      try {
        return await get();
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await sleep(200);
      }
    }
  }

  async function sessionsUp(host: ClusterHost, count: number): Promise<void> {
    const { stdout, stderr } = await host.tryCalico('bgp', 'status', '-o', 'json');
    assert.notEqual(stdout, '', stderr);
    const { sessions } = bgpReport.parse(JSON.parse(stdout));
    const shown = sessions.map(({ peer, state, why }) => `${peer} ${state} ${why ?? ''}`.trim());
    assert.equal(
      sessions.filter(({ state }) => state === 'Established').length,
      count,
      shown.join('\n'),
    );
  }

  /** The number of next hops of BIRD's route to a destination, in the kernel. */
  async function nextHops(host: Pick<Peer, 'exec'>, destination: string): Promise<number> {
    const family = destination.includes(':') ? '-6' : '-4';
    const shown = await output(host, `ip ${family} -o route show ${destination}`);
    return [...shown.matchAll(/\bvia (\S+)/g)].length;
  }

  const blockOf = (address: string) =>
    address.includes(':')
      ? address
          .replace(/[^:]+$/, (last) => (Number.parseInt(last, 16) & ~63).toString(16))
          .replace(/:0$/, ':')
      : address.replace(/\d+$/, (last) => String(Number(last) & ~63));

  /** Waits until each host has both next hops to the blocks of the others, and the default routes of both switches. */
  async function converged(families: readonly (4 | 6)[]): Promise<void> {
    await eventually(async () => {
      for (const host of hosts) {
        await sessionsUp(host, 2 * families.length);
        const others = cluster.containers.filter(({ on }) => on !== host.name);
        const addresses = others.flatMap((one) => one.addresses);
        const destinations = addresses
          .filter((address) => families.includes(address.includes(':') ? 6 : 4))
          .map((address) => `${blockOf(address)}/${address.includes(':') ? 122 : 26}`);
        const defaults = families.map(
          (family) =>
            `${family === 4 ? '0.0.0.0' : '::'}/0 metric ${1024 * (family === 4 ? 1 : 2)}`,
        );
        for (const destination of new Set([...destinations, ...defaults])) {
          assert.equal(await nextHops(host, destination), 2, `${host.name} to ${destination}`);
        }
      }
    });
  }

  async function nextHopOf(on: Pick<Peer, 'exec'>, lookup: string): Promise<string> {
    return /\bdev (\S+)/.exec(await output(on, `ip -4 route get ${lookup}`))?.[1] ?? '';
  }

  /** The switches by which packets go from one container to another. */
  async function way(from: Peer, to: Peer): Promise<readonly string[]> {
    const host = hosts.find(({ name }) => name === from.on) ?? assert.fail();
    const target = hosts.find(({ name }) => name === to.on) ?? assert.fail();
    const [source = '', destination = ''] = [from.addresses[0], to.addresses[0]];
    const veth = await nextHopOf(host, source);
    const uplink = await nextHopOf(host, `${destination} from ${source} iif ${veth}`);
    const at = switches.find(
      ({ name, rack }) =>
        rack === host.place.segment + 1 && name.endsWith(uplink === 'eth0' ? 'a' : 'b'),
    );
    assert.ok(at);
    if (target.place.segment === host.place.segment) return [at.name];
    const port = `segment-${host.place.segment}${at.name.endsWith('b') ? 'b' : ''}`;
    const lookup = `${destination} from ${source} iif ${port}`;
    const shown = await output(inSwitch(at.name), `ip -4 route get ${lookup}`);
    const core = /via 192\.0\.2\.(\d+)/.exec(shown)?.[1];
    const next = switches.find((one) => String(one.core) === core);
    return [at.name, next?.name ?? `${shown}?`];
  }

  const ofIpv4 = (peers: readonly Peer[]): readonly Peer[] =>
    peers.map((peer) => ({
      name: peer.name,
      on: peer.on,
      serves: peer.serves,
      addresses: peer.addresses.slice(0, 1),
      exec: (argv, options) => peer.exec(argv, options),
    }));

  /** The number of packets lost, of the words of a ping. The last one may be in flight. */
  const lostOf = (said: string): number => {
    if (said === '') return 0;
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(said) ?? [];
    assert.ok(sent !== undefined, said);
    return Number(sent) - Number(received);
  };

  async function reversePathFilter(mode: 1 | 2): Promise<void> {
    const script = `for i in all eth0 eth1; do echo ${mode} >/proc/sys/net/ipv4/conf/$i/rp_filter; done`;
    await Promise.all(hosts.map((host) => output(host, script)));
  }

  /** Pings between containers while something happens: those that cross rack-1a, and the others. */
  async function pings(): Promise<{ crossing: Pair[]; others: Pair[] }> {
    const pairs = cluster.containers.flatMap((from) =>
      cluster.containers.filter((to) => from.on < to.on).map((to) => ({ from, to })),
    );
    const found = { crossing: [] as Pair[], others: [] as Pair[] };
    for (const pair of pairs) {
      if (found.crossing.length > 1 && found.others.length > 1) break;
      const ways = [...(await way(pair.from, pair.to)), ...(await way(pair.to, pair.from))];
      const kind = ways.includes(first.name) ? 'crossing' : 'others';
      if (found[kind].length < 4) found[kind].push(pair);
    }
    return found;
  }

  /** Starts something on each switch, and ends it. */
  type Routers = (one: Switch) => Promise<{ end(signal: 'TERM' | 'KILL'): Promise<void> }>;
  const running = new Map<string, { end(signal: 'TERM' | 'KILL'): Promise<void> }>();
  async function startSwitches(start: Routers): Promise<void> {
    await Promise.all(switches.map(async (one) => running.set(one.name, await start(one))));
  }
  async function stopSwitches(): Promise<void> {
    await Promise.all(running.values().map((one) => one.end('TERM')));
    running.clear();
    for (const { name } of switches) {
      await output(inSwitch(name), 'ip route flush proto bgp; ip route flush proto bird; true');
    }
  }

  /** The switch rack-1a dies with all that it forwards, and comes back. */
  async function dieAndComeBack(
    startRouter: Routers,
    families: readonly (4 | 6)[],
    report: Pick<TestContext, 'diagnostic'>,
  ): Promise<void> {
    const { crossing, others } = await pings();
    assert.ok(crossing.length > 0 && others.length > 0, 'both kinds of connections are there');
    const start = (pairs: readonly Pair[]) =>
      Promise.all(pairs.map(({ from, to }) => pingFlow(from, to, to.addresses[0] ?? '')));
    const lost = async (flows: readonly Flow[]) =>
      (await Promise.all(flows.map((one) => one.lost()))).map((said) => lostOf(said));
    // A strict filter drops what comes by an uplink that is no way back, while routes change.
    await reversePathFilter(2);
    const flows = { crossing: await start(crossing), others: await start(others) };
    await sleep(500);
    await cluster.fabric.power(first.name, false);
    await running.get(first.name)?.end('KILL');
    for (const host of hosts.slice(0, 2)) await eventually(() => sessionsUp(host, families.length));
    const reached = families.includes(6) ? cluster.containers : ofIpv4(cluster.containers);
    await reachability(reached, 'all');
    // The datastore is reached again, by the other uplink.
    await eventually(async () => {
      const { stdout } = await admin().tryCalico('status');
      assert.match(stdout, /ok +datastore: .* in sync since/, stdout);
    }, 240_000);
    const died = { crossing: await lost(flows.crossing), others: await lost(flows.others) };
    const returning = await start([...crossing, ...others]);
    await output(inSwitch(first.name), 'ip route flush proto bgp; ip route flush proto bird; true');
    await cluster.fabric.power(first.name, true);
    running.set(first.name, await startRouter(first));
    await converged(families);
    const returned = await lost(returning);
    report.diagnostic(`packets lost: ${JSON.stringify({ ...died, returned })}`);
    assert.ok(
      died.others.every((count) => count === 0),
      `without the switch on their way: ${died.others.join(', ')}`,
    );
    for (const count of died.crossing) assert.ok(count > 0, 'the switch was not on its way');
    // 100 packets a second; the hold time is 240 s.
    for (const count of [...died.crossing, ...returned]) assert.ok(count < 2000, `${count} lost`);
  }

  const startFrr =
    (text: string): Routers =>
    (one) =>
      Frr.start(cluster.fabric.machine, one.name, { bgpd: configOf(one, text) });

  test('eBGP with FRR: routes by both uplinks, and no route in the fabric but by BGP', async () => {
    await reachability(cluster.containers, (from, to) => sameRack(from, to));
    await startSwitches(startFrr(fencedOf('frr-ebgp')));
    const peers = switches.flatMap((one) => ([4, 6] as const).map((family) => peerOf(one, family)));
    writeFileSync(admin().host.path('/racks.yaml'), peers.join('\n---\n'));
    await page.run('Hosts', async (command) => {
      const argv = command.replace(' racks.yaml', ' /racks.yaml').split(' ').slice(1);
      const { stdout, stderr, status } = await admin().tryCalico(...argv);
      assert.ok(status === 0 || command.endsWith('bgp status'), stderr);
      return stdout;
    });
    await converged([4, 6]);
    await reachability(cluster.containers, 'all');
    assert.match(await admin().calico('node', 'status'), /^host-3 .* BGP /m);
    const { stdout } = await admin().tryCalico('status');
    assert.match(stdout, /ok +other hosts: host-2 by direct routes; host-3 by BGP$/m);
    page.assertAllWasRun();
  });

  test('eBGP with FRR: a switch dies and comes back', { skip }, async (context) => {
    await dieAndComeBack(startFrr(fencedOf('frr-ebgp')), [4, 6], context);
  });

  const startBird =
    (text: string): Routers =>
    async (one) => {
      const { machine } = cluster.fabric;
      const files = ['conf', 'ctl', 'pid'].map((suffix) => `/tmp/${one.name}.${suffix}`);
      const [config = '', socket = '', pid = ''] = files;
      writeFileSync(machine.path(config), configOf(one, text));
      const argv = ['bird', '-c', config, '-s', socket, '-P', pid];
      await machine.run(['ip', 'netns', 'exec', one.name, ...argv]);
      return {
        end: async (signal) => {
          await machine.run(['sh', '-c', `kill -${signal} $(cat ${pid}); rm ${pid}`]);
        },
      };
    };

  /** Replaces what runs on the switches, and the BGPPeers of the first design by those of another one over IPv4. */
  async function change(
    start: Routers,
    spec: Readonly<Record<string, number | undefined>>,
  ): Promise<void> {
    await stopSwitches();
    for (const { name } of switches) await admin().tryCalico('delete', 'bgppeer', `${name}-v6`);
    await apply(switches.map((one) => peerOf(one, 4, spec)));
    await startSwitches(start);
    await converged([4]);
    await reachability(ofIpv4(cluster.containers), 'all');
  }

  const reflected = {
    asNumber: 64_512,
    numAllowedLocalASNumbers: undefined,
    ttlSecurity: undefined,
  };

  test(
    'iBGP with FRR: the switches reflect, and one dies and comes back',
    { skip },
    async (context) => {
      const start = startFrr(fencedOf('frr-ibgp'));
      await change(start, reflected);
      await dieAndComeBack(start, [4], context);
    },
  );

  test('eBGP with BIRD: a switch dies and comes back', { skip }, async (context) => {
    const start = startBird(fencedOf('bird-ebgp'));
    await change(start, {});
    await dieAndComeBack(start, [4], context);
  });

  const sameRack = (from: Peer, to: Peer) => {
    const segment = ({ on }: Peer) => hosts.find(({ name }) => name === on)?.place.segment;
    return segment(from) === segment(to);
  };
});
