import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { twoSubnets } from '../lab/cluster/fabric.ts';
import { flowsDuring, pingFlow, type Flow } from '../lab/cluster/flows.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import type { Host } from '../lab/host.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { eventually } from '../lab/poll.ts';

const hostFiles = (host: Host, word: 'install' | 'remove') =>
  host.run([`${checkout}/plugin/host-files`, word]);

/** Makes a host such that the managers run without udev: networkd takes interfaces as they are if /sys is read-only. */
async function prepare(host: Host): Promise<void> {
  const script = `mount -o remount,ro /sys
    mkdir -p /run/dbus /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
    chown -R systemd-network /run/systemd/netif
    dbus-daemon --system --fork --nopidfile`;
  await host.run(['sh', '-ec', script]);
}

/** The real systemd-networkd and NetworkManager, told by their administrator to manage whatever is Ethernet. */
describe('beside network managers', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  const sh = (script: string) => lab.host.run(['sh', '-ec', script]);
  before(async () => {
    lab = await startLab({
      engine: '20.10',
      backend: 'nft',
      datastore: 'sqlite',
      furnished: true,
    });
    await lab.network('web');
    await lab.server('app', '--net', 'web');
    await lab.client('inside', '--net', 'web');
    await prepare(lab.host);
    await sh(`printf '[Match]\\nName=uplink\\n[Link]\\nUnmanaged=yes\\n' >/etc/systemd/network/04-uplink.network
      printf '[Match]\\nType=ether\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/10-all.network`);
  });
  after(async () => lab[Symbol.asyncDispose]());

  const interfaceStates = async (list: readonly string[], state: number) =>
    (await lab.host.run(list))
      .split('\n')
      .map((line) => line.trim().split(/[\s:]+/))
      .filter((words) => words.some((word) => word.startsWith('cali')))
      .map((words) => words[state]);
  const areLeftAlone = async (states: () => Promise<readonly (string | undefined)[]>) => {
    assert.deepEqual(await states(), ['unmanaged', 'unmanaged']);
    const routes = await lab.host.run(['ip', 'route', 'show', 'proto', '80']);
    assert.equal(routes.trim().split('\n').length, 2);
    assert.ok(await lab.reaches('inside', 'app'));
  };

  for (const [name, command, list, state] of [
    [
      'systemd-networkd',
      ['/lib/systemd/systemd-networkd'],
      ['networkctl', 'list', '--no-pager', '--no-legend'],
      4,
    ],
    ['NetworkManager', ['NetworkManager', '--no-daemon'], ['nmcli', '-t', 'device'], 2],
  ] as const) {
    test(`${name} leaves interfaces and routes alone by what is installed, and would not without`, async () => {
      const states = () => interfaceStates(list, state);
      const isSettled = async () => {
        const answer = await lab.host.exec(list);
        return (
          answer.status === 0 && /docker0/.test(answer.stdout) && !/pending/.test(answer.stdout)
        );
      };
      const areTaken = async () => {
        const found = await states();
        return found.length === 2 && !found.includes('unmanaged');
      };
      await hostFiles(lab.host, 'install');
      const told = lab.host.spawn(command);
      assert.ok(await lab.eventually(isSettled), told.output());
      await sleep(2000);
      await areLeftAlone(states);
      await told.end('SIGTERM');
      await areLeftAlone(async () => ['unmanaged', 'unmanaged']);
      await hostFiles(lab.host, 'remove');
      const untold = lab.host.spawn(command);
      assert.ok(await lab.eventually(isSettled), untold.output());
      assert.ok(await lab.eventually(areTaken), (await states()).join());
      await untold.end('SIGTERM');
    });
  }

  test('what is installed is removed again, and installing twice changes nothing', async () => {
    const listing = () =>
      sh(
        'find /etc/systemd /etc/NetworkManager /etc/firewalld | sort; find /etc -name "*calico*" -newer /etc/hostname',
      );
    const before = await listing();
    await hostFiles(lab.host, 'install');
    const installed = await listing();
    assert.match(installed, /networkd\.conf\.d\/calico-cnm\.conf/);
    await hostFiles(lab.host, 'install');
    assert.equal(await listing(), installed);
    assert.match(await sh('NetworkManager --print-config'), /unmanaged-devices.*cali\*/);
    await hostFiles(lab.host, 'remove');
    assert.equal(await listing(), before);
  });

  test('systemd is told that the daemon is ready when the sockets listen, without Docker', async () => {
    await lab.host.stopDocker();
    await lab.host.stopCalico();
    const listener = `import socket, os
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/run/notify')
print('bound', flush=True)
print(s.recv(100).decode().strip(), os.path.exists('/run/docker/plugins/calico.sock'), flush=True)
s.recv(100)`;
    const systemd = lab.host.spawn(['python3', '-c', listener]);
    assert.ok(await lab.eventually(async () => systemd.output().includes('bound')));
    await lab.host.startCalico({ NOTIFY_SOCKET: '/run/notify' });
    assert.ok(await lab.eventually(async () => systemd.output().includes('READY=1')));
    assert.match(systemd.output(), /READY=1 True/);
  });
});

/** A manager whose administrator has it manage every interface, with the host's addresses on the uplink. */
interface Manager {
  readonly name: string;
  readonly command: readonly string[];
  /** Shows the state of the interfaces; `ready` when it has set up the uplink. */
  readonly list: readonly string[];
  readonly ready: RegExp;
  /** What it shows if it leaves both tunnel interfaces alone. */
  readonly unmanaged: RegExp;
  /** Shell commands that write its configuration. */
  readonly configure: (host: ClusterHost) => string;
}

const managers: readonly Manager[] = [
  {
    name: 'systemd-networkd',
    command: ['/lib/systemd/systemd-networkd'],
    list: ['networkctl', 'list', '--no-pager', '--no-legend'],
    ready: /eth0 +\S+ +\S+ +configured/,
    unmanaged: /vxlan\.calico .* unmanaged\n.*vxlan-v6\.calico .* unmanaged$/m,
    // This networkd never ends to set an IPv4 address on recent kernels; addresses that are there remain.
    configure: ({ place: { address6 } }) => `
      printf '[Match]\\nName=eth0\\n[Network]\\nAddress=${address6}/64\\nGateway=2001:db8:18:1::1\\nIPv6AcceptRA=no\\n' \
        >/etc/systemd/network/09-uplink.network
      printf '[Match]\\nName=*\\n[Network]\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n' >/etc/systemd/network/10-all.network`,
  },
  {
    name: 'NetworkManager',
    command: ['NetworkManager', '--no-daemon'],
    list: ['nmcli', '-t', 'device'],
    ready: /^eth0:ethernet:connected:uplink$/m,
    unmanaged: /^(?=[^]*^vxlan\.calico:vxlan:unmanaged:)[^]*^vxlan-v6\.calico:vxlan:unmanaged:/m,
    configure: ({ place: { address, address6 } }) => `
      printf '[connection]\\nid=uplink\\ntype=ethernet\\ninterface-name=eth0\\n[ipv4]\\nmethod=manual\\naddress1=${address}/24,198.18.1.1\\n[ipv6]\\nmethod=manual\\naddress1=${address6}/64,2001:db8:18:1::1\\n' \
        >/etc/NetworkManager/system-connections/uplink.nmconnection
      chmod 600 /etc/NetworkManager/system-connections/uplink.nmconnection`,
  },
];

/** The routes to other hosts' blocks are on an interface that the manager manages, and on tunnel interfaces. */
describe('network managers on a host with routes to other hosts', { timeout: 600_000 }, () => {
  let cluster: Cluster;
  let first: ClusterHost;
  before(async () => {
    cluster = await startCluster({ topology: twoSubnets(2, 1), furnished: true });
    first = cluster.hosts[0] ?? assert.fail();
    const pools = await first.calico('get', 'ippool', '-o', 'yaml');
    const input = pools.replaceAll(/vxlanMode: \w+/g, 'vxlanMode: CrossSubnet');
    await first.host.run(['sh', '-c', 'cat >/run/pools.yaml'], { input });
    await first.calico('apply', '-f', '/run/pools.yaml');
    await cluster.network('web');
    await Promise.all(cluster.hosts.map((host) => host.run(`on-${host.name}`, { network: 'web' })));
    await reachability(cluster.containers, 'all');
    await prepare(first.host);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  const shown = () =>
    first.host.run([
      'sh',
      '-ec',
      `for family in -4 -6; do
        ip $family route show proto 82 | sort
        ip $family neigh show nud permanent | sort
        ip $family -o addr show scope global
      done | sed 's/ *valid_lft.*//'
      for device in vxlan.calico vxlan-v6.calico; do bridge fdb show dev $device | sort; done`,
    ]);
  const becomes = async (read: () => Promise<string>, isWanted: (text: string) => boolean) => {
    let last = '';
    assert.ok(await eventually(async () => isWanted((last = await read()))), last);
  };
  const flows = (): Promise<readonly Flow[]> => {
    const [here, ...others] = cluster.containers;
    assert.ok(here);
    return Promise.all(
      others.flatMap((other) =>
        other.addresses.flatMap((address, family) => [
          pingFlow(here, other, address),
          pingFlow(other, here, here.addresses[family] ?? ''),
        ]),
      ),
    );
  };

  for (const { name, command, list, ready, unmanaged, configure } of managers) {
    test(`${name} that is restarted takes no route, neighbour or tunnel interface`, async () => {
      const before = await shown();
      await first.host.run(['sh', '-ec', configure(first)]);
      const restart = async (areTunnelsManaged: boolean) => {
        const manager = first.host.spawn(command);
        await becomes(
          async () => (await first.exec(list)).stdout,
          (text) => ready.test(text) && unmanaged.test(text) !== areTunnelsManaged,
        );
        await manager.end('SIGTERM');
      };
      await hostFiles(first.host, 'install');
      // The first start may set the uplink up anew, which is the manager's.
      await restart(false);
      await becomes(shown, (text) => text === before);
      await flowsDuring(await flows(), async () => {
        for (let restarts = 0; restarts < 2; restarts++) await restart(false);
      });
      assert.equal(await shown(), before);
      await hostFiles(first.host, 'remove');
      await restart(true);
      await becomes(shown, (text) => text === before);
      await reachability(cluster.containers, 'all');
    });
  }

  test('what a manager removes that takes all it did not configure itself comes back at once', async () => {
    const before = await shown();
    const take = `for family in -4 -6; do
        ip $family route flush proto 82
        ip $family neigh flush nud permanent
        for device in vxlan.calico vxlan-v6.calico; do ip $family address flush dev $device scope global; done
      done`;
    for (let times = 0; times < 3; times++) {
      await first.host.run(['sh', '-c', take]);
      await becomes(shown, (text) => text === before);
    }
    await reachability(cluster.containers, 'all');
  });
});
