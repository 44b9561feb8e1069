import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import { becomesText } from '../lab/poll.ts';

describe('nodes of a cluster', { timeout: 600_000 }, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ topology: oneSegment(3), disks: true });
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  const hosts = () => {
    const [first, second, third] = cluster.hosts;
    assert.ok(first && second && third);
    return { first, second, third };
  };
  const outputOf = async (host: Cluster['hosts'][number], ...argv: readonly string[]) => {
    const { stdout, stderr } = await host.tryCalico(...argv);
    return stdout + stderr;
  };
  const keys = (prefix: string) =>
    (cluster.etcd[0] ?? assert.fail()).etcdctl('get', '--prefix', prefix, '--keys-only');
  const restartWith = async (
    host: Cluster['hosts'][number],
    settings: Readonly<Record<string, string>>,
  ) => {
    await host.host.killCalico();
    await host.startCalico(settings);
  };

  test('node status shows the others, how they are reached, and when they were seen', async () => {
    const { first } = hosts();
    const row = (number: number) =>
      String.raw`host-${number} +198\.18\.1\.1${number} 2001:\S+ +route +20\S+Z +\d+ s ago`;
    const text = await becomesText(
      () => outputOf(first, 'node', 'status'),
      new RegExp(`${row(2)}\n${row(3)}\n$`),
    );
    assert.match(text, /^Node host-1, up since 20/);
    assert.match(text, /node address: 198\.18\.1\.11\/24 \(first-found: interface eth0\)/);
    assert.match(text, /^NODE +ADDRESS +REACHABLE BY +SINCE +LAST SEEN$/m);
  });

  test('the name is kept in a file, and a new host name does not change it', async () => {
    const { third } = hosts();
    assert.equal((await third.host.run(['cat', '/var/lib/calico/nodename'])).trim(), 'host-3');
    await third.host.run(['hostname', 'renamed']);
    await restartWith(third, {});
    assert.match(await outputOf(third, 'status'), /^calico-cnm \S+ on host-3, up since/);
    await third.host.run(['hostname', 'host-3']);
  });

  test('a changed address is followed at once, and one of another node is refused', async () => {
    const { first, second } = hosts();
    const stored = () => outputOf(first, 'get', 'node', 'host-2', '-o', 'wide');
    await second.host.run(['ip', 'address', 'add', '198.18.1.77/24', 'dev', 'eth0']);
    await restartWith(second, { IP_AUTODETECTION_METHOD: 'cidr=198.18.1.77/32' });
    await becomesText(stored, /198\.18\.1\.77\/24/);
    await restartWith(second, { IP: '198.18.1.11/24' });
    await becomesText(
      () => outputOf(second, 'status'),
      /FAIL +node address: node host-1 has address 198\.18\.1\.11 of this host, and it is running;/,
    );
    assert.match(await stored(), /198\.18\.1\.77\/24/);
    await restartWith(second, {});
    await becomesText(stored, /198\.18\.1\.12\/24/);
    // Without a restart, by the kernel's event; as a DHCP client does it.
    const moveTo = (address: string) => {
      const commands = [
        'address flush dev eth0 scope global',
        `address add ${address}/24 dev eth0`,
        `address add ${second.place.address6}/64 dev eth0 nodad`,
        'route replace default via 198.18.1.1',
      ];
      return second.host.run(['ip', '-batch', '-'], { input: `${commands.join('\n')}\n` });
    };
    await moveTo('198.18.1.78');
    await becomesText(stored, /198\.18\.1\.78\/24/);
    await moveTo(second.place.address);
    await becomesText(stored, /198\.18\.1\.12\/24/);
  });

  test('a second host with the name of one that runs is refused, and starts when that one stops', async () => {
    const { first, second } = hosts();
    await second.host.killCalico();
    const named = { NODENAME: 'host-1' };
    const starting = second.startCalico(named).catch(() => undefined);
    await becomesText(
      () => outputOf(second, 'status'),
      /FAIL +node host-1: node name host-1 is in use by another host, which is running \(MAC address 02:00:c6:12:01:0b,/,
    );
    assert.match(await outputOf(first, 'node', 'status'), /^Node host-1, up since/);
    await second.host.killCalico();
    await starting;
    await restartWith(second, { NODENAME: 'host-2' });
    await becomesText(() => outputOf(second, 'status'), /on host-2, up since \S+: healthy/);
  });

  test('a host that is switched off and on takes its name over without waiting', async () => {
    const { first, third } = hosts();
    await third.switchOff();
    await third.switchOn();
    await becomesText(() => outputOf(third, 'status'), /on host-3, up since \S+: healthy/);
    await becomesText(() => outputOf(first, 'node', 'status'), /host-3 .* s ago/);
  });

  test('a node that runs is not deleted; one that stopped is, with everything of it', async () => {
    const { first, third } = hosts();
    await third.network('web');
    await third.run('app', { network: 'web' });
    const refused = await first.tryCalico('node', 'delete', 'host-3');
    assert.match(
      refused.stderr,
      /node host-3 is running \(since 20\S+\); stop its daemon first, or run calico-cnm node delete host-3 --force/,
    );
    assert.equal(refused.status, 1);
    await third.host.stopCalico();
    await becomesText(() => outputOf(first, 'node', 'status'), /host-3: its daemon has stopped/);
    const text = await outputOf(first, 'delete', 'node', 'host-3');
    assert.match(text, /^endpoints: 1 of 1 deleted$/m);
    assert.match(text, /^Node host-3 deleted$/m);
    assert.doesNotMatch(keys('/calico/'), /host-{1,2}3\b/);
    assert.match(keys('/calico/'), /nodes\/host-2/);
    await third.startCalico();
    await becomesText(() => outputOf(first, 'node', 'status'), /host-3 .* s ago/);
  });

  test('a daemon whose node is deleted by force writes nothing more, and says so', async () => {
    const { first, second } = hosts();
    await second.network('web');
    assert.match(
      await outputOf(first, 'node', 'delete', 'host-2', '--force'),
      /Node host-2 deleted/,
    );
    await assert.rejects(second.run('late', { network: 'web' }));
    await becomesText(
      () => outputOf(second, 'status'),
      /FAIL +node host-2: node host-2 was deleted from the datastore, .*; restart the daemon/,
    );
    assert.doesNotMatch(keys('/calico/'), /host-{1,2}2\b/);
    await restartWith(second, { NODENAME: 'host-2' });
    await becomesText(() => outputOf(first, 'node', 'status'), /host-2 .* s ago/);
  });
});
