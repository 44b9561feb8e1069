import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

/** The real systemd-networkd and NetworkManager, told by their administrator to manage whatever is Ethernet. */
describe('beside network managers', { timeout: 180_000 }, () => {
  let lab: NetworkLab;
  const sh = (script: string) => lab.host.run(['sh', '-ec', script]);
  const hostFiles = (word: 'install' | 'remove') =>
    lab.host.run([`${checkout}/plugin/host-files`, word]);
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
    // Without udev networkd takes interfaces as they are, if /sys says that it is in a container.
    await sh(`mount -o remount,ro /sys
      mkdir -p /run/dbus /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
      chown -R systemd-network /run/systemd/netif
      dbus-daemon --system --fork --nopidfile
      printf '[Match]\\nName=uplink\\n[Link]\\nUnmanaged=yes\\n' >/etc/systemd/network/04-uplink.network
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
      await hostFiles('install');
      const told = lab.host.spawn(command);
      assert.ok(await lab.eventually(isSettled), told.output());
      await new Promise((resolve) => setTimeout(resolve, 2000));
      await areLeftAlone(states);
      await told.end('SIGTERM');
      await areLeftAlone(async () => ['unmanaged', 'unmanaged']);
      await hostFiles('remove');
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
    await hostFiles('install');
    const installed = await listing();
    assert.match(installed, /networkd\.conf\.d\/calico-cnm\.conf/);
    await hostFiles('install');
    assert.equal(await listing(), installed);
    assert.match(await sh('NetworkManager --print-config'), /unmanaged-devices.*cali\*/);
    await hostFiles('remove');
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
