import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { loadLibc, type Libc } from '../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { twoSubnets } from '../lab/cluster/fabric.ts';
import { unlessLong } from '../lab/long.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { outputOrThrow } from '../lab/process.ts';
import { openDatagrams, sendDatagram } from '../lab/raw-packets.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { becomesText } from '../lab/poll.ts';

/** The iptables variant of the hosts; both are tried. */
const backends = ['nft', 'legacy'] as const;
const devices = ['vxlan.calico', 'vxlan-v6.calico'] as const;
const ourVni = 200;
const swarmVni = 4096;

for (const backend of backends) {
  const skip = backend === 'legacy' && unlessLong();
  const title = `three hosts in two subnets, VXLAN, iptables-${backend}`;
  describe(title, { timeout: 600_000, skip }, () => {
    const iptables = `iptables-${backend}`;
    let cluster: Cluster;
    let hosts: readonly [ClusterHost, ClusterHost, ClusterHost];
    before(async () => {
      cluster = await startCluster({ topology: twoSubnets(2, 1), backend });
      const [one, two, three] = cluster.hosts;
      hosts = [one ?? assert.fail(), two ?? assert.fail(), three ?? assert.fail()];
      // Docker does this when it starts.
      for (const host of hosts) await output(host, 'sysctl -qw net.ipv4.ip_forward=1');
      await setMode('CrossSubnet');
      await cluster.network('web');
      await Promise.all(
        hosts.map((host, index) => host.run(`app-${index + 1}`, { network: 'web' })),
      );
    });
    after(() => cluster[Symbol.asyncDispose]());

    async function setMode(mode: 'CrossSubnet' | 'Always' | 'Never'): Promise<void> {
      const [first] = hosts;
      const pools = await first.calico('get', 'ippool', '-o', 'yaml');
      const changed = pools.replaceAll(/vxlanMode: \w+/g, `vxlanMode: ${mode}`);
      writeFileSync(first.host.path('/tmp/pools.yaml'), changed);
      await first.calico('apply', '-f', '/tmp/pools.yaml');
    }

    async function output(peer: Pick<Peer, 'exec'>, command: string): Promise<string> {
      const argv = ['sh', '-c', command];
      return outputOrThrow(argv, await peer.exec(argv));
    }

    /** Polls a command on a host until its output matches. */
    async function eventually(peer: Pick<Peer, 'exec'>, command: string, wanted: RegExp) {
      return becomesText(async () => (await peer.exec(['sh', '-c', command])).stdout, wanted);
    }

    async function received(host: ClusterHost, device: string): Promise<number> {
      return Number(await output(host, `cat /sys/class/net/${device}/statistics/rx_packets`));
    }

    test('containers reach each other over IPv4 and IPv6, across subnets through the tunnels', async () => {
      await reachability(cluster.containers, 'all');
      for (const device of devices) {
        const counts = await Promise.all(hosts.map((host) => received(host, device)));
        assert.ok(
          counts.every((count) => count > 0),
          `${device}: ${counts.join()}`,
        );
      }
    });

    test('the cluster has a VNI that Docker does not take, and tunnels and containers an MTU that fits', async () => {
      const [first, , third] = hosts;
      assert.match(
        await first.calico('get', 'felixconfig', 'default', '-o', 'yaml'),
        /vxlanVNI: 200/,
      );
      for (const host of hosts) {
        assert.doesNotMatch((await host.tryCalico('status')).stdout, /overlaps/);
        for (const [device, mtu] of [
          [devices[0], 1450],
          [devices[1], 1430],
        ] as const) {
          const shown = await output(host, `ip -d link show ${device}`);
          assert.match(
            shown,
            new RegExp(`mtu ${mtu} .*vxlan id ${ourVni} .*dstport 4789 nolearning`, 's'),
          );
        }
      }
      const [container] = third.containers;
      assert.match(
        await output(container ?? assert.fail(), 'ip -o link'),
        /(eth0|cali0).* mtu 1430 /,
      );
      assert.match(await first.calico('ipam', 'check'), /no problems/);
    });

    test("tunnel packets of our VNI from a stranger are dropped and counted; those of Swarm's VNI are not", async () => {
      const [, , third] = hosts;
      const { address, address6 } = third.place;
      await output(
        third,
        `ip link add swarm type vxlan id ${swarmVni} dstport 4789 local ${address} && ip link set swarm up`,
      );
      const before = await received(third, 'swarm');
      await sendTunnelled(address, swarmVni);
      await eventually(
        third,
        'cat /sys/class/net/swarm/statistics/rx_packets',
        new RegExp(`^${before + 1}$`, 'm'),
      );
      const tunnelled = await Promise.all(devices.map((device) => received(third, device)));
      for (const to of [address, address6]) await sendTunnelled(to, ourVni);
      sendWithExtensionHeader(address6);
      // The kernel takes tunnel packets from broadcasts as well.
      sendBroadcast(address.replace(/\d+$/, '255'));
      await eventually(third, 'calico-cnm status', /VXLAN from an unknown host +4 /);
      // Nothing else is sent meanwhile.
      assert.deepEqual(
        await Promise.all(devices.map((device) => received(third, device))),
        tunnelled,
      );
      await output(third, 'ip link del swarm');
    });

    test('a tunnel interface, neighbours and entries that somebody removes are made again', async () => {
      const [, , third] = hosts;
      for (const device of devices) {
        await output(
          third,
          `ip neigh flush dev ${device} nud permanent; bridge fdb show dev ${device} | while read mac rest; do bridge fdb del "$mac" dev ${device}; done`,
        );
        await eventually(
          third,
          `bridge fdb show dev ${device} | wc -l; ip neigh show dev ${device} nud permanent | wc -l`,
          /^2\n2$/m,
        );
        await output(third, `ip link del ${device}`);
      }
      await reachability(cluster.containers, 'all');
    });

    test("an interface of the administrator that has the tunnel's name stays, without routes of ours, and is named", async () => {
      const [, , third] = hosts;
      const [device] = devices;
      const ownRoutes = `ip route show proto 82 dev ${device}`;
      await third.host.killCalico();
      await output(
        third,
        `ip link del ${device}; ip link add ${device} type bridge; ip link set ${device} up`,
      );
      await third.startCalico();
      await eventually(
        third,
        'calico-cnm status',
        /FAIL +dataplane: interface vxlan\.calico: this host has another interface of this name, of kind bridge/,
      );
      assert.equal(await output(third, ownRoutes), '');
      await output(third, `ip link del ${device}`);
      await reachability(cluster.containers, 'all');
    });

    test('a daemon that is killed and starts again, with its tunnels as they are, loses no packet', async () => {
      const [first, , third] = hosts;
      const [from] = first.containers;
      const [to] = third.containers;
      const [address = ''] = to?.addresses ?? [];
      const index = await output(third, `cat /sys/class/net/${devices[0]}/ifindex`);
      const stream = output(from ?? assert.fail(), `ping -q -i 0.02 -c 250 -w 30 ${address}`);
      await third.host.killCalico();
      await first.host.killCalico();
      await Promise.all([first.startCalico(), third.startCalico()]);
      assert.match(await stream, /250 packets transmitted, 250 received/);
      assert.equal(await output(third, `cat /sys/class/net/${devices[0]}/ifindex`), index);
    });

    test('the tunnel follows the MTU of the uplink, and new containers have it', async () => {
      const [, , third] = hosts;
      await output(third, 'ip link set eth0 mtu 1400');
      await eventually(third, `cat /sys/class/net/${devices[0]}/mtu`, /^1350$/m);
      await eventually(third, `cat /sys/class/net/${devices[1]}/mtu`, /^1330$/m);
      const late = await third.run('late', { network: 'web' });
      assert.match(await output(late, 'ip -o link'), /mtu 1330 /);
      await third.remove('late');
      await output(third, 'ip link set eth0 mtu 1500');
    });

    test('without a pool that needs them, interfaces, rules and addresses go', async () => {
      await setMode('Never');
      for (const host of hosts) {
        await eventually(host, 'ls /sys/class/net', /^(?!.*vxlan)/s);
        await eventually(
          host,
          `${iptables}-save`,
          /^(?!.*jump? .*cali-vxlan-to-host|.*-j cali-vxlan-to-host)/s,
        );
      }
      const [first] = hosts;
      const left = async () => first.calico('get', 'node', '-o', 'yaml');
      assert.doesNotMatch(await left(), /VXLANTunnelAddr/);
      assert.match(await first.calico('ipam', 'check'), /no problems/);
      await setMode('Always');
      await reachability(cluster.containers, 'all');
    });

    test('a container on a network of Docker itself cannot send into the tunnels by the address of its host', async () => {
      const [first, , third] = hosts;
      const { address } = third.place;
      // As Docker does for its bridge.
      await output(
        first,
        `ip netns add bridged && ip link add docker0 type veth peer eth0 netns bridged &&
        ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up &&
        ip -n bridged addr add 172.17.0.2/16 dev eth0 && ip -n bridged link set eth0 up &&
        ip -n bridged route add default via 172.17.0.1 &&
        ${iptables} -A FORWARD -i docker0 -j ACCEPT &&
        ${iptables} -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE`,
      );
      await output(
        third,
        `ip link add swarm type vxlan id ${swarmVni} dstport 4789 local ${address} && ip link set swarm up`,
      );
      const [ours, swarm] = [await received(third, devices[0]), await received(third, 'swarm')];
      // While the tunnels returned, a host may have sent before it was known as a node.
      const [, before = '0'] =
        /VXLAN from an unknown host +(\d+) /.exec(await first.calico('status')) ?? [];
      for (const vni of [ourVni, swarmVni]) {
        await output(first, `ip netns exec bridged bash -c "${command(address, vni)}"`);
      }
      await eventually(
        third,
        'cat /sys/class/net/swarm/statistics/rx_packets',
        new RegExp(`^${swarm + 1}$`, 'm'),
      );
      assert.equal(await received(third, devices[0]), ours);
      const dropped = new RegExp(`VXLAN from an unknown host +${Number(before) + 1} `);
      await eventually(first, 'calico-cnm status', dropped);
      await output(
        first,
        `ip netns del bridged && ${iptables} -D FORWARD -i docker0 -j ACCEPT &&
        ${iptables} -t nat -D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE`,
      );
      await output(third, 'ip link del swarm');
    });

    /** Sends one tunnelled broadcast frame from a machine that is no node. */
    async function sendTunnelled(to: string, vni: number): Promise<void> {
      await cluster.fabric.machine.run(['bash', '-c', command(to, vni)]);
    }

    /** Sends one in a packet with a destination options header (RFC 8200, 4.6), from the same machine. */
    function sendWithExtensionHeader(to: string): void {
      const padding = Buffer.from([0, 0, 1, 4, 0, 0, 0, 0]);
      const [ipv6Level, destinationOptions] = [41, 59];
      const namespace = `/proc/${cluster.fabric.machine.pid}/ns/net`;
      sendOddly({ namespace, from: '::', to }, (libc, fd) =>
        libc.setsockopt(fd, ipv6Level, destinationOptions, padding, padding.length),
      );
    }

    /** Sends one to all hosts of the router's subnet. */
    function sendBroadcast(to: string): void {
      const [socketLevel, broadcast] = [1, 6];
      const namespace = cluster.fabric.machine.path('/run/netns/router');
      sendOddly({ namespace, from: '0.0.0.0', to }, (libc, fd) =>
        libc.setsockopt(fd, socketLevel, broadcast, Buffer.from([1, 0, 0, 0]), 4),
      );
    }

    /** Sends one by a socket with an option. */
    function sendOddly(
      { namespace, from, to }: Record<'namespace' | 'from' | 'to', string>,
      option: (libc: Libc, fd: number) => number,
    ): void {
      const libc = loadLibc();
      inNetworkNamespace(libc, namespace, () => {
        const fd = openDatagrams(libc, { address: parseAddress(from), port: 0 });
        assert.equal(option(libc, fd), 0);
        assert.ok(
          sendDatagram(libc, fd, { address: parseAddress(to), port: 4789 }, tunnelled(ourVni)),
        );
        libc.close(fd);
      });
    }
  });
}

/** A command that sends one tunnelled broadcast frame. */
function command(to: string, vni: number): string {
  const text = [...tunnelled(vni)]
    .map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`)
    .join('');
  return `printf '${text}' >/dev/udp/${to}/4789`;
}

function tunnelled(vni: number): Buffer {
  const header = [8, 0, 0, 0, vni >> 16, (vni >> 8) & 255, vni & 255, 0];
  const everybody = [255, 255, 255, 255, 255, 255];
  return Buffer.from([...header, ...everybody, 2, 0, 0, 0, 0, 9, 0x88, 0xb5, ...Buffer.alloc(46)]);
}
