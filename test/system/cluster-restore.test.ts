import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { OwnCluster } from '../lab/cluster/own-cluster.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { unlessLong } from '../lab/long.ts';

const unit = 'calico-cnm-etcd.service';
const backup = '/var/backups/calico.db';

/** Two of three members are lost for good, and the third is restored from a backup that is older than what runs. */
describe('restore of a cluster by command', { skip: unlessLong(), timeout: 600_000 }, () => {
  let cluster: OwnCluster;
  before(async () => {
    cluster = await OwnCluster.ofThreeMembers();
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  test('two members are lost, containers talk on, and after the restore no address is given twice', async () => {
    const [first, second, third] = [cluster.host(1), cluster.host(2), cluster.host(3)];
    await first.host.run(['mkdir', '-p', '/var/backups']);
    assert.match(await first.calico('cluster', 'backup', backup), /^backup written to/);
    // Younger than the backup.
    for (const host of [first, second]) {
      for (const n of [1, 2, 3]) await host.run(`later-${n}-${host.name}`, { network: 'web' });
    }
    const refused = await first.tryCalico('cluster', 'restore', backup);
    assert.match(refused.stderr, /198\.18\.1\.12, 198\.18\.1\.13/);
    await cluster.undisturbed([first, second], {}, async () => {
      // One host is lost with everything, the other loses its etcd and goes on as a host.
      await third.switchOff();
      await second.host.run(['systemctl', 'stop', unit]);
      await second.host.run(['sh', '-c', 'rm -rf /var/lib/calico/cluster/etcd/data']);
      await cluster.shows(first, /no quorum: nothing can be changed/);
      const { status, stdout, stderr } = await first.host.exec(
        ['calico-cnm', 'cluster', 'restore', '--wait', '20', backup],
        { timeoutMs: 150_000 },
      );
      assert.match(stdout, /^etcd was restored from/m, stderr);
      assert.match(stdout, /^node host-3 has not responded: .*cluster remove host-3$/m);
      assert.equal(status, 1);
      await cluster.shows(first, /: 1 of 1 members respond/);
      for (const host of [first, second]) {
        for (const n of [1, 2, 3]) await host.run(`after-${n}-${host.name}`, { network: 'web' });
      }
      for (const end = Date.now() + 150_000; ; await sleep(1000)) {
        const removed = await first.tryCalico('cluster', 'remove', 'host-3');
        if (removed.status === 0) break;
        assert.ok(Date.now() < end, removed.stderr);
      }
    });
    const containers = [...first.containers, ...second.containers];
    const addresses = containers.flatMap((one) => one.addresses);
    assert.equal(new Set(addresses).size, addresses.length);
    await reachability(containers, 'all');
    for (const host of [first, second]) await cluster.well(host);
  });

  test('a new host makes it three members again', async () => {
    const [first, second, third] = [cluster.host(1), cluster.host(2), cluster.host(3)];
    await cluster.undisturbed([first, second], {}, async () => {
      await third.switchOn();
      const { installSystemctl } = await import('../lab/cluster/systemctl.ts');
      installSystemctl(third.host.machine);
      await cluster.furnish(third);
      await cluster.join(third, first);
      await cluster.healthy(first);
      await cluster.allocate(first, second, third);
    });
  });
});
