import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { clusterPools, startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import { certificatePaths, type ClusterHost } from '../lab/cluster/cluster-host.ts';
import { coreAddress, twoSubnets } from '../lab/cluster/fabric.ts';
import { confdBird } from '../lab/confd-bird.ts';
import { whereIpipIs } from '../lab/other-kernel.ts';
import { Page } from '../lab/page.ts';
import { patienceMs } from '../lab/poll.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { outputOrThrow } from '../lab/process.ts';
import { reachability } from '../lab/cluster/reachability.ts';

/** Containers on a pool without encapsulation, whose routes BIRD writes. */
const plainSubnet = '10.66.0.0/16';
/** A kernel in user mode answers late. */
const slowly = { tcpSeconds: 6, patienceMs: 60_000 };
const foreignAddress = '203.0.113.77';
const escaped = (text: string) => text.replaceAll('.', String.raw`\.`);

const skip = whereIpipIs('test/system/ipip.test.ts', 1_500_000);

describe(
  'three hosts with Docker in two subnets, IP-in-IP',
  {
    timeout: 1_400_000,
    skip,
  },
  () => {
    const page = new Page('docs/tunnels.md', (text) =>
      text.replaceAll('172.16.9.13', '198.18.2.11').replaceAll('172.16.0.', '198.18.1.'),
    );
    let cluster: Cluster;
    let hosts: readonly [ClusterHost, ClusterHost, ClusterHost];
    before(async () => {
      cluster = await startCluster({
        topology: twoSubnets(2, 1),
        docker: '20.10',
        routers: true,
        roles: false,
      });
      const [one, two, three] = cluster.hosts;
      hosts = [one ?? assert.fail(), two ?? assert.fail(), three ?? assert.fail()];
      // Commands of the page are run as on a host of a user.
      const settings = [
        `ETCD_ENDPOINTS=https://${coreAddress(1)}:2379`,
        `ETCD_CA_CERT_FILE=${certificatePaths.ca}`,
        `ETCD_CERT_FILE=${certificatePaths.cert}`,
        `ETCD_KEY_FILE=${certificatePaths.key}`,
      ].join('\n');
      for (const { host } of hosts) {
        writeFileSync(host.path('/etc/calico/calico-cnm.env'), `${settings}\n`);
      }
      // Somebody uses the kernel's interface already.
      await output(
        hosts[1],
        `ip address add ${foreignAddress}/32 dev tunl0 && ip link set tunl0 up`,
      );
      // One after the other, and again: a kernel in user mode is slow.
      for (const [index, host] of hosts.entries()) {
        await patiently(() => host.network('web', { ipv6: false }));
        await patiently(() => host.run(`app-${index + 1}`, { network: 'web' }));
      }
    });
    after(() => cluster[Symbol.asyncDispose]());

    async function output(peer: Pick<Peer, 'exec'>, command: string): Promise<string> {
      const argv = ['sh', '-ec', command];
      return outputOrThrow(argv, await peer.exec(argv));
    }

    /** Repeats what fails, as people do. */
    async function patiently<Value>(work: () => Promise<Value>): Promise<Value> {
      for (const deadline = Date.now() + patienceMs; ; await sleep(500)) {
        try {
          return await work();
        } catch (error) {
          if (Date.now() > deadline) throw error;
        }
      }
    }

    /** Polls a command on a host until its output matches. */
    async function eventually(peer: Pick<Peer, 'exec'>, command: string, wanted: RegExp) {
      let last = '';
      for (const deadline = Date.now() + patienceMs; Date.now() < deadline; await sleep(200)) {
        last = (await peer.exec(['sh', '-c', command])).stdout;
        if (wanted.test(last)) return last;
      }
      return assert.fail(`${command}: ${last}, not ${wanted}`);
    }

    const waiting = (host: ClusterHost, wanted: RegExp) => async (command: string) =>
      command.includes('status') ? eventually(host, command, wanted) : output(host, command);

    async function setMode(mode: 'CrossSubnet' | 'Always' | 'Never'): Promise<void> {
      const pool = 'calico-cnm get ippool default-ipv4-ippool -o yaml';
      const [first] = hosts;
      await output(
        first,
        `${pool} | sed 's/ipipMode: .*/ipipMode: ${mode}/' | calico-cnm apply -f -`,
      );
    }

    const received = async (host: ClusterHost) =>
      Number(await output(host, 'cat /sys/class/net/tunl0/statistics/rx_packets'));

    /** The routes to blocks of the pool through other hosts. */
    const routes = (host: ClusterHost) =>
      output(host, 'ip route show proto 82; ip route show proto bird');

    const own = (host: ClusterHost) =>
      host.containers.filter(({ name }) => name.startsWith('app-'));
    const apps = () => hosts.flatMap(own);

    /** All pairs of containers; a host reaches its own ones, and by the policy of the network no others. */
    async function matrix(): Promise<void> {
      const isAllowed = (from: Peer, to: Peer) => from.name !== from.on || from.on === to.on;
      await reachability([...apps(), ...hosts.map(ipv4Only)], isAllowed, slowly);
    }
    const ipv4Only = (host: ClusterHost): Peer => ({
      name: host.name,
      on: host.on,
      addresses: [],
      serves: false,
      exec: (argv, options) => host.exec(argv, options),
    });

    test('CrossSubnet: the other subnet is reached through tunl0, the own one by direct routes', async () => {
      const [first, second, third] = hosts;
      const isIpip = /host-3 .* IPIP/;
      await page.run('IP-in-IP across subnets', waiting(first, isIpip));
      await eventually(first, 'ip route show proto 82', /via 198\.18\.2\.11 dev tunl0 onlink/);
      await page.run('IP-in-IP across subnets', (command) => output(first, command));
      await matrix();
      assert.match(await routes(first), /via 198\.18\.1\.12 dev eth0/);
      const counts = await Promise.all([first, second, third].map(received));
      assert.ok(
        counts.every((count) => count > 0),
        counts.join(),
      );
    });

    test('each node has a tunnel address from IPAM, as source of the host, and an MTU that fits', async () => {
      const [first, , third] = hosts;
      for (const host of hosts) {
        const node = await first.calico('get', 'node', host.name, '-o', 'yaml');
        const [, address = ''] = /ipv4IPIPTunnelAddr: ([\d.]+)/.exec(node) ?? [];
        const shown = await output(host, 'ip -o -4 address show tunl0; ip link show tunl0');
        assert.match(shown, new RegExp(`inet ${address}/32 scope global tunl0:calico\\\\`));
        assert.match(shown, /[<,]UP[,>].* mtu 1480 /);
        const to = own(host === third ? first : third)[0]?.addresses[0] ?? assert.fail();
        assert.match(await output(host, `ip route get ${to}`), /src /);
      }
      const to = own(third)[0]?.addresses[0] ?? '';
      const tunnel = await output(first, "ip -o -4 address show label 'tunl0:calico' | tr / ' '");
      const [, source = ''] = /inet ([\d.]+) /.exec(tunnel) ?? [];
      assert.match(await output(first, `ip route get ${to}`), new RegExp(`src ${source} `));
      assert.match(await output(own(third)[0] ?? assert.fail(), 'ip -o link'), / mtu 1480 /);
      assert.match(await first.calico('ipam', 'check'), /no problems/);
      assert.match(
        (await first.tryCalico('status')).stdout,
        /^ +ok +IPIP IPv4: tunl0 [\d.]+, MTU 1480/m,
      );
    });

    test('a packet that is too long for the tunnel is answered with the MTU', async () => {
      const [first, , third] = hosts;
      const [from] = own(first);
      const to = own(third)[0]?.addresses[0] ?? '';
      const ping = (bytes: number) =>
        from?.exec(['ping', '-c', '1', '-W', '5', '-M', 'do', '-s', String(bytes), to]);
      assert.equal((await ping(1452))?.status, 0);
      await output(first, 'ip link set eth0 mtu 1400');
      await eventually(first, 'cat /sys/class/net/tunl0/mtu', /^1380$/m);
      assert.match((await ping(1452))?.stdout ?? '', /mtu ?= ?1380/i);
      assert.equal((await ping(1352))?.status, 0);
      await output(first, 'ip link set eth0 mtu 1500');
      await eventually(first, 'cat /sys/class/net/tunl0/mtu', /^1480$/m);
    });

    test('packets of protocol 4 from a stranger are dropped and counted, unless it is named', async () => {
      const [first, , third] = hosts;
      const to = own(third)[0]?.addresses[0] ?? '';
      const stranger = (command: string) => cluster.fabric.machine.run(['sh', '-ec', command]);
      await stranger(
        `ip link add stranger type ipip local ${coreAddress(1)} remote ${third.place.address}; ip link set stranger up; ip route add ${to}/32 dev stranger src ${coreAddress(1)}`,
      );
      const send = () => stranger(`ping -c 3 -i 0.2 -W 1 ${to} >/dev/null || true`);
      const before = await received(third);
      await send();
      await eventually(third, 'calico-cnm status', /IPIP from an unknown host +3 /);
      assert.equal(await received(third), before);
      const felix = (nodes: string) =>
        `apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: node.${third.name}}\nspec: {externalNodesList: [${nodes}]}\n`;
      writeFileSync(first.host.path('/felix.yaml'), felix(coreAddress(1)));
      await first.calico('apply', '-f', '/felix.yaml');
      await eventually(
        third,
        'ipset list cali40all-hosts-net',
        new RegExp(`^${coreAddress(1).replaceAll('.', String.raw`\.`)}$`, 'm'),
      );
      await send();
      assert.equal(await received(third), before + 3);
      await first.calico('delete', 'felixconfig', `node.${third.name}`);
      await stranger('ip link del stranger');
    });

    test('what others change of tunl0 is repaired, and what is theirs stays', async () => {
      const [, second, third] = hosts;
      for (const change of [
        'ip link set tunl0 down',
        'ip link set tunl0 mtu 1300',
        "ip address flush dev tunl0 label 'tunl0:calico'",
      ]) {
        await output(third, change);
        await eventually(
          third,
          'ip address show tunl0; ip route show proto 82',
          /^(?=[^]*[<,]UP[,>].* mtu 1480 )(?=[^]*tunl0:calico)[^]*dev tunl0 onlink/,
        );
      }
      assert.match(await output(second, 'ip address show tunl0'), new RegExp(foreignAddress));
      await matrix();
    });

    test('a host on which FelixConfiguration disables it has no route through tunl0, and gets them back', async () => {
      const [first, , third] = hosts;
      const through = /dev tunl0/;
      const felix = (isOn: boolean) =>
        `apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: node.${first.name}}\nspec: {ipipEnabled: ${isOn}}\n`;
      const configure = async (isOn: boolean) => {
        writeFileSync(first.host.path('/felix.yaml'), felix(isOn));
        await first.calico('apply', '-f', '/felix.yaml');
      };
      await configure(false);
      await eventually(first, 'ip route show proto 82', /^(?!.*dev tunl0)(?=.*dev eth0)/s);
      await eventually(first, 'ip address show tunl0', /^(?!.*(?:[<,]UP[,>]|inet ))/s);
      // A tunnel of another program is no reason to send packets of containers through it.
      await output(first, 'ip link set tunl0 up');
      const to = own(third)[0]?.addresses[0] ?? '';
      assert.doesNotMatch(await output(first, `ip route get ${to}`), through);
      const status = (await first.tryCalico('status')).stdout;
      assert.match(status, /FAIL +IPIP IPv4: .* FelixConfiguration disables it on this host/);
      assert.doesNotMatch(status, /FAIL +dataplane/);
      assert.match(await first.calico('node', 'status'), /^host-3 .* none /m);
      await configure(true);
      await eventually(first, 'ip route show proto 82', through);
      await first.calico('delete', 'felixconfig', `node.${first.name}`);
      await eventually(own(first)[0] ?? assert.fail(), `ping -c 1 -W 2 ${to}`, / 1 received/);
    });

    test('the lines for nftables accept the packets of nodes', async () => {
      const [, , third] = hosts;
      await output(
        third,
        `nft 'add table inet filter; add chain inet filter input { type filter hook input priority 10; policy drop; }; add rule inet filter input meta l4proto != 4 accept'`,
      );
      const to = own(third)[0]?.addresses[0] ?? '';
      const ping = () => own(hosts[0])[0]?.exec(['ping', '-c', '1', '-W', '2', to]);
      assert.notEqual((await ping())?.status, 0);
      await page.run('Firewalls', (command) => output(third, command));
      assert.equal((await ping())?.status, 0);
      await output(third, 'nft delete table inet filter');
      page.assertAllWasRun();
    });

    test('Always: the own subnet is reached through tunl0 as well', async () => {
      const [first] = hosts;
      await setMode('Always');
      await eventually(first, 'ip route show proto 82', /via 198\.18\.1\.12 dev tunl0 onlink/);
      assert.doesNotMatch(await routes(first), /dev eth0/);
      await matrix();
    });

    for (const mode of ['Always', 'CrossSubnet'] as const) {
      test(`with BGP, ${mode}: routes of the pool are the daemon's, plain ones are BIRD's`, async () => {
        const [first, second] = hosts;
        await setMode(mode);
        if (mode === 'Always') {
          for (const host of [first, second]) {
            await patiently(() => host.network('plain', { subnet: plainSubnet, ipv6: false }));
            await patiently(() => host.run(`plain-${host.name}`, { network: 'plain' }));
          }
          await first.calico('bgp', 'enable');
        }
        const birds = 'ip route show proto bird';
        await eventually(first, birds, /^10\.66\.\S+ via 198\.18\.1\.12/m);
        await eventually(first, 'ip route show proto 82', /^(?!.*10\.66\.\S+ via)/s);
        const wanted = mode === 'Always' ? /dev tunl0/ : /dev eth0/;
        await eventually(
          first,
          'ip route show proto 82 via 198.18.1.12',
          new RegExp(`^10\\.64\\.\\S+ ${wanted.source}`, 'm'),
        );
        assert.doesNotMatch(await output(first, birds), /^10\.64\./m);
        await matrix();
        await reachability(
          cluster.containers.filter(({ name }) => name.startsWith('plain-')),
          'all',
          slowly,
        );
      });
    }

    test('a node whose BIRD has the configuration of confd exchanges routes of the pool, and packets pass its tunnel', async () => {
      const [first, second, third] = hosts;
      await third.host.stopCalico();
      await third.startCalico({ CALICO_BGP: 'off' });
      await eventually(third, 'pidof bird || echo none', /^none$/m);
      const through = /^10\.64\.\S+ via 198\.18\.1\.11 dev tunl0 onlink/m;
      await eventually(third, 'ip route show proto 82', through);
      // What it leaves in the kernel is the part of Felix: the tunnel and the routes through it.
      await third.host.stopCalico();
      const block = async (host: ClusterHost) =>
        (await output(host, "ip route show type blackhole proto 82 | cut -d' ' -f2"))
          .split('\n')
          .find((line) => line.startsWith('10.64.') && line.includes('/')) ?? assert.fail();
      const [ofFirst, ofThird] = [await block(first), await block(third)];
      const address = third.place.address;
      const peers = [first, second].map(
        ({ place }) => ({ kind: 'Mesh', address: place.address, asNumber: 64_512 }) as const,
      );
      const family = {
        family: 4,
        address,
        blocks: [ofThird],
        pools: [plainSubnet],
        poolsOfFelix: [clusterPools.v4],
        peers,
      } as const;
      const text = confdBird({ routerId: address, asNumber: 64_512, families: [family] });
      writeFileSync(third.host.path('/tmp/confd.conf'), text);
      await output(third, 'bird -c /tmp/confd.conf -s /tmp/confd.ctl -P /tmp/confd.pid');
      const learned = (socket: string, from: string) =>
        `birdc -s ${socket} show route protocol Mesh_${from.replaceAll('.', '_')}`;
      const ours = '/run/calico/bird/bird.ctl';
      await eventually(first, learned(ours, address), new RegExp(`^${escaped(ofThird)} `, 'm'));
      await eventually(
        third,
        learned('/tmp/confd.ctl', first.place.address),
        new RegExp(`^(?=[^]*^${escaped(ofFirst)} )(?=[^]*^10\\.66\\.)`, 'm'),
      );
      await eventually(third, 'ip route show proto bird', /^10\.66\.\S+ via /m);
      assert.doesNotMatch(await output(third, 'ip route show proto bird'), /^10\.64\./m);
      assert.match(await output(third, 'ip route show proto 82'), through);
      assert.doesNotMatch(await output(first, 'ip route show proto bird'), /^10\.64\./m);
      const before = await received(third);
      await matrix();
      assert.ok((await received(third)) > before);
      await output(third, 'birdc -s /tmp/confd.ctl down; ip route flush proto bird');
      await third.startCalico();
      await eventually(third, 'calico-cnm bgp status', /(?:Established[^]*){2}/);
    });

    test('a daemon that is killed and starts again loses no packet', async () => {
      const [first, , third] = hosts;
      const to = own(third)[0]?.addresses[0] ?? '';
      const stream = output(own(first)[0] ?? assert.fail(), `ping -q -i 0.05 -c 200 -w 60 ${to}`);
      await third.host.killCalico();
      await first.host.killCalico();
      await Promise.all([first.startCalico(), third.startCalico()]);
      assert.match(await stream, /200 packets transmitted, 200 received/);
    });

    test('without a pool that needs it, address and rules go, and tunl0 is down unless others use it', async () => {
      await setMode('Never');
      const [first, second] = hosts;
      await eventually(first, 'ip address show tunl0', /^(?!.*(?:[<,]UP[,>]|inet ))/s);
      await eventually(second, 'ip address show tunl0', /^(?!.*tunl0:calico)(?=.*[<,]UP[,>])/s);
      assert.match(await output(second, 'ip address show tunl0'), new RegExp(foreignAddress));
      for (const host of hosts) {
        await eventually(host, 'iptables-save; ipset list -n', /^(?!.*all-hosts-net)/s);
      }
      assert.doesNotMatch(await first.calico('get', 'node', '-o', 'yaml'), /IPIPTunnelAddr/);
      assert.match(await first.calico('ipam', 'check'), /no problems/);
    });
  },
);
