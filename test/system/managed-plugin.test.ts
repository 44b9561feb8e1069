import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startHost } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import { ManagedPluginLab, pluginName } from '../lab/managed-plugin.ts';

const skip = unlessLong();

describe('the managed plugin, Docker 28.5', { timeout: 600_000 }, () => suite('28.5'));
describe('the managed plugin, Docker 20.10', { timeout: 600_000, skip }, () => suite('20.10'));

function suite(engine: '20.10' | '28.5'): void {
  let lab: ManagedPluginLab;
  before(async () => {
    const host = await startHost({ engine, uplink: true });
    lab = new ManagedPluginLab(host);
    await lab.start('--live-restore');
    await lab.create('test');
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('a setting that makes no sense stops enable, and one line of the log says which', async () => {
    await lab.docker('plugin', 'set', pluginName, 'CALICO_MTU=7');
    await lab.refused('plugin', 'enable', pluginName);
    assert.match(
      lab.host.dockerLog(),
      /CALICO_MTU=\S*7\S* \(from the environment\): must be an integer/,
    );
    assert.match(
      await lab.refused('plugin', 'set', pluginName, 'CALICO_COLOUR=red'),
      /not found|no such|CALICO_COLOUR/i,
    );
  });

  test('it is enabled, and the host has its command line', async () => {
    await lab.docker('plugin', 'set', pluginName, 'CALICO_MTU=1400', 'CALICO_LOG_LEVEL=debug');
    await lab.docker('plugin', 'enable', pluginName);
    assert.match(await lab.calico('status'), /: healthy$/m);
    assert.ok(await lab.eventually(async () => lab.host.dockerLog().includes('daemon ready')));
  });

  test('Docker gives it a /proc/sys that cannot be written, but for the network settings', async () => {
    const pid = await lab.processId();
    const mounts = await lab.host.run(['grep', '/proc/sys', `/proc/${pid}/mountinfo`]);
    const isReadOnly = (place: string) =>
      new RegExp(` ${place} (ro|rw)`).exec(mounts)?.[1] === 'ro';
    assert.deepEqual(['/proc/sys', '/proc/sys/net'].map(isReadOnly), [true, false], mounts);
  });

  test('the tour works by its own name and by the plain ones', async () => {
    await lab.docker(
      'network',
      'create',
      '-d',
      pluginName,
      '--ipam-driver',
      pluginName,
      '--ipv6',
      'own',
    );
    await lab.docker('network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam', 'plain');
    for (const [network, other] of [
      ['own', 'plain'],
      ['plain', 'own'],
    ] as const) {
      await lab.server(`${network}app`, '--net', network);
      await lab.client(`${network}client`, '--net', network);
      assert.ok(await lab.eventually(() => lab.reaches(`${network}client`, `${network}app`)));
      assert.match(
        await lab.docker('exec', `${network}app`, 'cat', '/sys/class/net/eth0/mtu'),
        /^1400$/,
      );
      const address = await lab.address(`${network}app`, network);
      await lab.client('outside', '--net', other);
      await lab.onlyAfter({
        probe: () => lab.reaches('outside', address),
        droppedAt: `${network}app`,
        change: () =>
          lab.calico('profile', network, 'rule', 'add', 'inbound', 'allow', 'from', 'tag', other),
      });
      await lab.docker('rm', '-f', 'outside');
    }
    assert.ok(await lab.reaches('ownclient', await lab.address6('ownapp', 'own')));
    const scopes = await lab.docker(
      'network',
      'ls',
      '--format',
      '{{.Name}} {{.Scope}}',
      '-f',
      'type=custom',
    );
    assert.deepEqual(scopes.split('\n').toSorted(), ['own local', 'plain local']);
  });

  test('a network of all hosts has the name of the plugin as its driver on this host', async () => {
    assert.match(await lab.calico('network', 'create', 'shared'), / created$/m);
    const format = '{{.Driver}} {{.IPAM.Driver}}';
    const drivers = await lab.docker('network', 'inspect', '-f', format, 'shared');
    assert.equal(drivers.trim(), `${pluginName} ${pluginName}`);
    assert.match(await lab.calico('network', 'rm', 'shared'), /^shared$/m);
    assert.doesNotMatch(await lab.docker('network', 'ls'), /shared/);
  });

  test('the node has the name of the host', async () => {
    const host = await lab.host.run(['hostname']);
    assert.match(await lab.calico('status'), new RegExp(` on ${host}, up since`));
  });

  test('its BIRD has a session with a router, announces blocks, and is there again when the plugin has died', async () => {
    const { host } = lab;
    const status = async () => (await lab.calicoResult('bgp', 'status')).stdout;
    const isUp = async () => /^198\.18\.77\.2 .* Established /m.test(await status());
    const address = /^Node .*, router ID (\S+)$/m;
    await lab.calico('bgp', 'enable');
    await lab.calico('bgp', 'peer', 'add', '198.18.77.2', '--as', '65001');
    assert.ok(await lab.eventually(async () => address.test(await status())), await status());
    const [, own = ''] = address.exec(await status()) ?? [];
    const router = [
      'router id 198.18.77.2; protocol device { } protocol bgp host {',
      `local 198.18.77.2 as 65001; neighbor ${own} as 64512; multihop;`,
      'ipv4 { import all; export none; }; }',
    ].join(' ');
    // The router runs the same BIRD, in a network of its own.
    const root = `/proc/${await lab.processId()}/root`;
    await host.run(
      [
        'sh',
        '-ec',
        `mkdir -p /tmp/rack-root/tmp /tmp/rack-root/dev
        mknod /tmp/rack-root/dev/null c 1 3
        for one in usr bin sbin lib lib64; do cp -a ${root}/$one /tmp/rack-root; done
        cat >/tmp/rack-root/tmp/rack.conf`,
      ],
      { input: router },
    );
    await host.run([
      'sh',
      '-ec',
      `ip netns add rack
      ip link add rack0 type veth peer name eth0 netns rack
      ip addr add 198.18.77.1/24 dev rack0
      ip link set rack0 up
      ip -n rack addr add 198.18.77.2/24 dev eth0
      ip -n rack link set eth0 up
      ip -n rack route add default via 198.18.77.1
      ip netns exec rack chroot /tmp/rack-root bird -c /tmp/rack.conf -s /tmp/rack.ctl -P /tmp/rack.pid`,
    ]);
    assert.ok(await lab.eventually(isUp), await status());
    const blocks = () =>
      host.run(['chroot', '/tmp/rack-root', 'birdc', '-s', '/tmp/rack.ctl', 'show', 'route']);
    const hasBlocks = async () => /^10\.65\.\S+ .* \[host /m.test(await blocks());
    assert.ok(await lab.eventually(hasBlocks), await blocks());
    await lab.killProcess();
    await lab.isWellAgain();
    // It keeps the routes while this BIRD starts again.
    assert.ok(await hasBlocks(), await blocks());
    assert.ok(await lab.eventually(isUp), await status());
    await host.run(['chroot', '/tmp/rack-root', 'birdc', '-s', '/tmp/rack.ctl', 'down']);
    await host.run(['sh', '-ec', 'ip netns del rack; rm -rf /tmp/rack-root']);
    await lab.calico('bgp', 'peer', 'remove', '198.18.77.2');
    await lab.calico('bgp', 'disable');
    const isOff = async () => (await status()).startsWith('BGP is off');
    assert.ok(await lab.eventually(isOff), await status());
  });

  test('it is not disabled while a network uses it', async () => {
    assert.match(await lab.refused('plugin', 'disable', pluginName), /in use/);
  });

  for (const network of ['own', 'plain']) {
    test(`its process dies: no packet of network ${network} is lost, and new containers start`, async () => {
      await lab.losesNothing(network, async () => {
        await lab.killProcess();
        await lab.isWellAgain();
      });
      await lab.startsAnother(network);
    });
  }

  test('dockerd is killed and started again: no packet is lost, and new containers start', async () => {
    await lab.losesNothing('own', async () => {
      await lab.host.killDocker();
      await lab.host.startDocker('--live-restore');
      await lab.isWellAgain();
    });
    for (const network of ['own', 'plain']) await lab.startsAnother(network);
  });

  test('it is replaced by another version: no packet is lost, and everything is still there', async () => {
    const before = await lab.calico('get', 'ippool');
    await lab.losesNothing('own', async () => {
      await lab.docker('plugin', 'disable', '-f', pluginName);
      await lab.docker('plugin', 'rm', '-f', pluginName);
      await lab.create('newer');
      await lab.docker('plugin', 'enable', pluginName);
      await lab.isWellAgain();
    });
    assert.match(await lab.calico('version'), /newer/);
    assert.equal(await lab.calico('get', 'ippool'), before);
    for (const network of ['own', 'plain']) await lab.startsAnother(network);
  });

  test('a daemon beside it does not start, and both sides say so', async () => {
    const { status, stderr } = await lab.host.exec(['calico-cnm', 'run']);
    assert.equal(status, 69);
    assert.match(
      stderr,
      /^calico-cnm: the systemd daemon cannot start: the managed plugin \(process \d+\) already serves this host[^\n]*\n$/,
    );
    assert.match(
      (await lab.host.exec(['calico-cnm', 'status'])).stdout,
      /FAIL {2}duplicate installation: .*systemd daemon/,
    );
  });

  test('the host moves to the daemon: plain networks stay, status lists the others', async () => {
    await lab.losesNothing('plain', async () => {
      await lab.docker('plugin', 'disable', '-f', pluginName);
      await lab.host.startCalico();
    });
    await lab.startsAnother('plain');
    const { status, stdout } = await lab.host.exec(['calico-cnm', 'status']);
    assert.equal(status, 1);
    assert.match(stdout, /network own: driver calico-cnm:test is not enabled/);
    assert.doesNotMatch(stdout, /network plain:/);
    await lab.refused('plugin', 'enable', pluginName);
    assert.match(
      lab.host.dockerLog(),
      /the managed plugin cannot start: the systemd daemon .*already serves this host/,
    );
  });

  test('and back', async () => {
    await lab.losesNothing('plain', async () => {
      await lab.host.stopCalico();
      await lab.docker('plugin', 'enable', pluginName);
      await lab.isWellAgain();
    });
    for (const network of ['own', 'plain']) await lab.startsAnother(network);
  });

  test('it is removed without a trace in Docker, and the data stay', async () => {
    await lab.clear();
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
    await lab.docker('plugin', 'disable', pluginName);
    await lab.docker('plugin', 'rm', pluginName);
    assert.equal(await lab.docker('plugin', 'ls', '-q'), '');
    assert.equal((await lab.host.exec(['test', '-e', '/var/lib/calico/calico.db'])).status, 0);
  });
}
