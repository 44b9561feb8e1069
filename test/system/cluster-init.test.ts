import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import { pingFlow } from '../lab/cluster/flows.ts';
import { startIslands } from '../lab/cluster/islands.ts';
import { unlessLong } from '../lab/long.ts';
import { eventually } from '../lab/poll.ts';
import type { CommandResult } from '../lab/process.ts';

const clusterFile = z.looseObject({ endpoints: z.array(z.string()) });

/** Three hosts become a cluster by the three commands of the documentation, while containers run on them. */
describe('a cluster in three commands', { timeout: 900_000 }, () => {
  let islands: Cluster;
  before(async () => {
    islands = await startIslands(oneSegment(3));
  });
  after(() => islands?.[Symbol.asyncDispose]());

  const hosts = () => {
    const [first, second, third] = islands.hosts;
    assert.ok(first && second && third);
    return { first, second, third };
  };
  const succeeded = ({ host }: ClusterHost, result: CommandResult): string => {
    const { status, stdout, stderr } = result;
    assert.equal(status, 0, `${stdout}${stderr}\n${host.calicoLog()}`);
    return stdout;
  };
  /** Waits until `cluster status` shows this. */
  const shows = async (on: ClusterHost, pattern: RegExp): Promise<string> => {
    const end = Date.now() + 60_000;
    for (;;) {
      const { stdout, stderr } = await on.tryCalico('cluster', 'status');
      if (pattern.test(stdout)) return stdout;
      if (Date.now() > end) {
        const logs = islands.hosts.map(({ host }) => host.calicoLog().slice(-4000));
        assert.fail(`${pattern} is not in\n${stdout}${stderr}\n${logs.join('\n\n')}`);
      }
      await sleep(200);
    }
  };
  /** Lets another program listen on the port of etcd for other members. */
  const takePort = async ({ host, place }: ClusterHost) => {
    const listen = `
$_ = IO::Socket::IP->new(LocalHost => '${place.address}', LocalPort => 2380, Listen => 1)
  or die $@; sleep 1000`;
    const taken = host.spawn(['perl', '-MIO::Socket::IP', '-e', listen]);
    const isTaken = async () =>
      (await host.run(['ss', '-Hltn', 'sport = :2380'])).includes(':2380');
    while (!(await isTaken())) await sleep(50);
    return taken;
  };
  const refusesTakenPort = async (host: ClusterHost, token: string) => {
    const taken = await takePort(host);
    const { first } = hosts();
    const member = `${first.place.address}:2381`;
    const { status, stderr } = await host.tryCalico('cluster', 'join', member, token);
    await taken.end('SIGKILL');
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^calico-cnm: port 2380 of \S+ is in use; find .* and run the command again$/m,
    );
    assert.match((await host.tryCalico('cluster', 'status')).stderr, /belongs to no cluster/);
  };
  const part = (number: number, what: string) => new RegExp(`^host-${number} +\\S+ +${what} `, 'm');

  test('init moves a host with running containers into a cluster of its own, and prints the line to join', async (t) => {
    const { first } = hosts();
    await first.network('web', { ipv6: false });
    const [a, b] = [
      await first.run('a', { network: 'web' }),
      await first.run('b', { network: 'web' }),
    ];
    const taken = await takePort(first);
    const refused = await first.tryCalico('cluster', 'init');
    assert.match(refused.stderr, /^calico-cnm: port 2380 of 198\.18\.1\.11 is in use; find/);
    await taken.end('SIGKILL');
    const folder = '/var/lib/calico/cluster';
    await first.host.run(['mkdir', folder]);
    await first.host.run(['mount', '-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', folder]);
    const full = await first.tryCalico('cluster', 'init');
    assert.match(
      full.stderr,
      /^calico-cnm: \S+ has 64 MiB of free space, and etcd needs 512 MiB; make/,
    );
    await first.host.run(['umount', folder]);
    await first.host.run(['rmdir', folder]);
    const database = '/var/lib/calico/calico.db';
    await first.host.run(['touch', '-d', 'tomorrow', database]);
    const behind = await first.tryCalico('cluster', 'init');
    assert.match(
      behind.stderr,
      /^calico-cnm: the clock of this host is wrong: it is \S+, but .* set it/,
    );
    await first.host.run(['touch', database]);
    // Nothing of it is left.
    const none = await first.tryCalico('cluster', 'status');
    assert.match(none.stderr, /belongs to no cluster/);
    const flow = await pingFlow(a, b, b.addresses[0] ?? '');
    const begun = performance.now();
    const out = succeeded(first, await first.tryCalico('cluster', 'init'));
    t.diagnostic(`init: ${Math.round(performance.now() - begun)} ms`);
    assert.match(out, /^calico-cnm cluster join 198\.18\.1\.11:2381 \S+\n/);
    assert.equal(await flow.lost(), '');
    await shows(first, part(1, 'member'));
    const again = await first.tryCalico('cluster', 'init');
    assert.match(again.stderr, /^calico-cnm: this host already belongs to a cluster \(member/);
  });

  test('the last host of a cluster takes its data back, and may begin another one', async () => {
    const { first } = hosts();
    const [a, b] = first.containers;
    assert.ok(a && b);
    const flow = await pingFlow(a, b, b.addresses[0] ?? '');
    const out = succeeded(first, await first.tryCalico('cluster', 'leave'));
    assert.match(out, /^the cluster is dissolved; this host uses \S+calico\.db again\n$/);
    // The loops of the cluster end within a second or so.
    const end = Date.now() + 60_000;
    let shown = await first.tryCalico('status');
    for (; shown.status !== 0 && Date.now() < end; await sleep(200)) {
      shown = await first.tryCalico('status');
    }
    const status = shown.stdout;
    assert.equal(shown.status, 0, `${status}${shown.stderr}${first.host.calicoLog()}`);
    assert.match(status, /datastore: \/var\/lib\/calico\/calico\.db/);
    assert.match(status, /^a +web +\S+ .* ready$/m);
    await first.run('later', { network: 'web' });
    assert.match((await first.tryCalico('cluster', 'status')).stderr, /belongs to no cluster/);
    assert.notEqual((await first.host.exec(['pgrep', '-x', 'etcd'])).status, 0);
    assert.match(await first.calico('ipam', 'check'), /no problems found/);
    succeeded(first, await first.tryCalico('cluster', 'init'));
    assert.equal(await flow.lost(), '');
    await shows(first, part(1, 'member'));
  });

  test(
    'with three hosts all become members, and the cluster survives the loss of one etcd',
    { skip: unlessLong() },
    async (t) => {
      const { first, second, third } = hosts();
      for (const host of [second, third]) {
        const [, token = ''] =
          /2381 (\S+)/.exec(await first.calico('cluster', 'token', 'create')) ?? [];
        if (host === second) await refusesTakenPort(second, token);
        const begun = performance.now();
        succeeded(
          host,
          await host.tryCalico('cluster', 'join', `${first.place.address}:2381`, token),
        );
        t.diagnostic(`join: ${Math.round(performance.now() - begun)} ms`);
      }
      for (const number of [1, 2, 3]) await shows(third, part(number, 'member'));
      await shows(second, /^cluster \S+: healthy/);
      // The first one is lost before the second one has learned of any other.
      await second.host.stopCalico();
      const file = second.host.path('/var/lib/calico/cluster/cluster.json');
      const known = clusterFile.parse(JSON.parse(readFileSync(file, 'utf8')));
      const endpoints = [`https://${first.place.address}:2379`];
      writeFileSync(file, JSON.stringify({ ...known, endpoints }));
      // Its daemon would start etcd again.
      await first.host.stopCalico();
      await first.host.run(['systemctl', 'stop', 'calico-cnm-etcd.service']);
      await second.startCalico();
      await shows(second, /2 of 3 members respond, 2 needed; no other may be lost/);
      await second.network('db', { ipv6: false });
      await second.run('c', { network: 'db' });
      await first.host.run(['systemctl', 'start', 'calico-cnm-etcd.service']);
      await first.startCalico();
      await shows(second, /^cluster \S+: healthy/);
    },
  );

  test(
    'a host that leaves begins anew, and of three members one remains',
    { skip: unlessLong() },
    async () => {
      const { first, second, third } = hosts();
      const refused = await first.tryCalico('cluster', 'remove', 'host-3');
      assert.match(refused.stderr, /host host-3 runs; run calico-cnm cluster leave there/);
      succeeded(third, await third.tryCalico('cluster', 'leave'));
      await third.host.stopCalico();
      await third.startCalico();
      assert.match(await third.calico('status'), /datastore: \/var\/lib\/calico\/calico\.db/);
      const status = await shows(first, /1 of 1 members respond/);
      assert.match(status, /^host-2 .* client /m);
      const left = await first.calico('cluster', 'status');
      assert.doesNotMatch(left, /host-3/);
      const held = await second.tryCalico('cluster', 'leave');
      assert.match(held.stderr, /this host has Calico networks \(db\)/);
    },
  );

  test(
    'the only member gets another address: it follows, and so does a client that is told',
    { skip: unlessLong() },
    async () => {
      const { first, second } = hosts();
      const [a, b] = first.containers;
      assert.ok(a && b);
      const flow = await pingFlow(a, b, b.addresses[0] ?? '');
      const { address: former } = first.place;
      const address = former.replace(/11$/, '21');
      // The kernel removes other addresses of the subnet with the first one.
      await first.host.run(['ip', 'address', 'del', `${former}/24`, 'dev', 'eth0']);
      await first.host.run(['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0']);
      await shows(first, new RegExp(`healthy[^]*^host-1 +${address} +member .*leader`, 'm'));
      await first.run('moved', { network: 'web' });
      const lost = await second.tryCalico('cluster', 'status');
      assert.match(
        lost.stderr,
        /no member of the cluster responds \(\S+\.11\); start them .*, and if/,
      );
      const created = await first.calico('cluster', 'token', 'create');
      const [, server = '', token = ''] = /join (\S+) (\S+)/.exec(created) ?? [];
      assert.equal(server, `${address}:2381`);
      const said = succeeded(second, await second.tryCalico('cluster', 'join', server, token));
      assert.match(said, /joined before/);
      await shows(second, /1 of 1 members respond/);
      // The daemon connects after the command has.
      const isInSync = async () =>
        /ok +datastore: .*, in sync since/.test((await second.tryCalico('status')).stdout);
      assert.ok(await eventually(isInSync));
      await second.run('found', { network: 'db' });
      assert.equal(await flow.lost(), '');
    },
  );

  test(
    'a host that was interrupted while it left, and is forgotten since, leaves',
    { skip: unlessLong() },
    async () => {
      const { first, second } = hosts();
      for (const name of ['c', 'found']) await second.remove(name);
      await second.removeNetwork('db');
      await second.host.stopCalico();
      succeeded(first, await first.tryCalico('cluster', 'remove', 'host-2'));
      const removed = await second.tryCalico('cluster', 'leave');
      assert.match(removed.stderr, /node host-2 has no access, because it was removed from the/);
      const file = second.host.path('/var/lib/calico/cluster/cluster.json');
      const known = clusterFile.parse(JSON.parse(readFileSync(file, 'utf8')));
      writeFileSync(file, JSON.stringify({ ...known, step: 'announced' }));
      const said = succeeded(second, await second.tryCalico('cluster', 'leave'));
      assert.match(said, /^node host-2 has left the cluster; its daemon restarts/);
      await second.startCalico();
      const { stdout } = await second.tryCalico('status');
      assert.match(stdout, /datastore: \/var\/lib\/calico\/calico\.db/);
    },
  );
});
