import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { OwnCluster } from '../lab/cluster/own-cluster.ts';
import { unlessLong } from '../lab/long.ts';

/** A folder with etcd and etcdctl of the next minor version. */
const newer = process.env['CALICO_TEST_NEWER_ETCD'];
const without = newer === undefined && 'CALICO_TEST_NEWER_ETCD names no folder with a newer etcd';

/** etcd is upgraded by one minor version, one member after the other, while containers send 100 packets a second. */
describe('upgrade of etcd', { skip: unlessLong() || without, timeout: 600_000 }, () => {
  let cluster: OwnCluster;
  before(async () => {
    cluster = await OwnCluster.ofThreeMembers(4);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  const three = () => [cluster.host(1), cluster.host(2), cluster.host(3)] as const;

  test('nothing is lost between the versions, and Docker is served', () =>
    cluster.undisturbed(three(), {}, async () => {
      const [first] = three();
      const before = await cluster.healthy(first);
      const [, former = ''] = /^host-1 +\S+ +member +(\d+\.\d+)\./m.exec(before) ?? [];
      for (const { host } of three()) {
        // The running program is not overwritten.
        await host.run(['rm', '/usr/bin/etcd', '/usr/bin/etcdctl']);
        for (const name of ['etcd', 'etcdctl']) {
          copyFileSync(`${newer}/${name}`, host.path(`/usr/bin/${name}`));
        }
        await host.run(['systemctl', 'restart', 'calico-cnm-etcd.service']);
        await cluster.healthy(first);
        await cluster.allocate(...three());
      }
      const after = await cluster.healthy(first);
      const versions = [...after.matchAll(/ member +(\d+\.\d+)\./g)].map(([, version]) => version);
      assert.equal(new Set(versions).size, 1, after);
      assert.notEqual(versions[0], former);
      for (const host of three()) await cluster.well(host);
    }));

  test('a host with the former version joins as a client, and status says why', async () => {
    const [first, second] = three();
    const fourth = cluster.host(4);
    await cluster.undisturbed([first, second], {}, async () => {
      await cluster.undisturbed([fourth], {}, () => cluster.join(fourth, first));
      await cluster.shows(first, /^host-4 .*etcd \d\.\d\.\d+ cannot join a cluster of \d/m);
    });
    await cluster.undisturbed([first, second, fourth], {}, () =>
      cluster.allocate(...three(), fourth),
    );
  });
});
