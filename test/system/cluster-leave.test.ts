import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { OwnCluster } from '../lab/cluster/own-cluster.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { unlessLong } from '../lab/long.ts';

const database = '/var/lib/calico/calico.db';
const deny = (name: string) => `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: ${name}
spec:
  order: 10
  selector: all()
  types: [Ingress]
  ingress:
    - action: Deny
      protocol: TCP
      destination:
        ports: [81]
    - action: Allow
`;

/** Hosts whose cluster is lost for good, or has removed them, go on with what they know of it. */
describe('leaving a cluster by force', { skip: unlessLong(), timeout: 900_000 }, () => {
  let cluster: OwnCluster;
  let laters = 0;
  before(async () => {
    cluster = await OwnCluster.ofThreeMembers(4);
    await cluster.join(cluster.host(4), cluster.host(1));
    await cluster.host(1).host.run(['sh', '-ec', `cat >/root/deny.yaml <<E${deny('no-81')}E`]);
    await cluster.host(1).calico('apply', '-f', '/root/deny.yaml');
    await cluster.shows(cluster.host(4), /^host-4 .* client .*running/m);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  /** Leaves by force while its containers talk, and is a host of its own afterwards. */
  const leaveByForce = async (host: ClusterHost): Promise<string> => {
    const addresses = host.containers.map((one) => one.addresses.join());
    let said = '';
    await cluster.undisturbed([host], {}, async () => {
      said = cluster.succeeded(host, await host.tryCalico('cluster', 'leave', '--force'));
      await cluster.well(host);
      await cluster.allocate(host);
    });
    assert.match(said, new RegExp(`^node ${host.name} has left its cluster .*${database}`, 'm'));
    const status = await host.calico('status');
    assert.match(status, new RegExp(`datastore: ${database}`));
    for (const letter of ['a', 'b'])
      assert.match(status, new RegExp(`^${letter}-${host.name} +web +\\S+ .* ready$`, 'm'));
    assert.match((await host.tryCalico('cluster', 'status')).stderr, /belongs to no cluster/);
    assert.match(await host.calico('ipam', 'check'), /no problems found/);
    assert.deepEqual((await host.calico('get', 'nodes')).match(/^host-\d/gm), [host.name]);
    assert.match(await host.calico('get', 'gnp'), /no-81/);
    assert.notEqual((await host.host.exec(['pgrep', '-x', 'etcd'])).status, 0);
    // No address is given twice.
    const later = await host.run(`later-${++laters}-${host.name}`, { network: 'web' });
    assert.ok(!addresses.includes(later.addresses.join()));
    assert.deepEqual(
      host.containers.slice(0, addresses.length).map((one) => one.addresses.join()),
      addresses,
    );
    await reachability(host.containers, 'all');
    return said;
  };

  test('a host of a cluster that responds leaves in the usual way only', async () => {
    const fourth = cluster.host(4);
    const { status, stderr } = await fourth.tryCalico('cluster', 'leave', '--force');
    assert.equal(status, 1);
    assert.match(
      stderr,
      /the cluster responds and has node host-4, so .*; run calico-cnm cluster leave$/m,
    );
    assert.match(await fourth.calico('status'), /datastore: https:/);
  });

  test('a host that was removed with its networks is told two ways, and goes back to its own datastore', async () => {
    const [first, fourth] = [cluster.host(1), cluster.host(4)];
    const { stderr } = await first.tryCalico('node', 'delete', '--force', 'host-4');
    assert.match(stderr, /^calico-cnm: host-4 is a host of the cluster; .*cluster remove host-4$/m);
    await cluster.undisturbed([fourth], {}, async () => {
      await fourth.host.killCalico();
      for (const end = Date.now() + 150_000; ; await sleep(1000)) {
        const { status, stderr } = await first.tryCalico('cluster', 'remove', 'host-4');
        if (status === 0) break;
        assert.ok(Date.now() < end, stderr);
      }
      await fourth.startCalico();
      const ways =
        /node host-4 has no access, because it was removed from the cluster; run on this host: calico-cnm cluster join \(to join again\), or calico-cnm cluster leave --force \(to keep its networks in a datastore of its own\)/;
      for (const end = Date.now() + 60_000; ; await sleep(200)) {
        const { stdout } = await fourth.tryCalico('status');
        if (ways.test(stdout)) break;
        assert.ok(Date.now() < end, stdout);
      }
      for (const command of [
        ['cluster', 'status'],
        ['cluster', 'leave'],
      ])
        assert.match((await fourth.tryCalico(...command)).stderr, ways);
    });
    const said = await leaveByForce(fourth);
    assert.match(
      said,
      /^not brought along: 3 other nodes \(host-1, host-2, host-3\) and \d+ endpoints there/m,
    );
  });

  test('and joins again with its containers', async () => {
    const [first, fourth] = [cluster.host(1), cluster.host(4)];
    await cluster.undisturbed([first, fourth], { across: false }, async () => {
      await cluster.join(fourth, first);
      await cluster.well(fourth);
    });
    await reachability([...first.containers, ...fourth.containers], 'all');
    assert.match(await first.calico('ipam', 'check'), /no problems found/);
  });

  test('a member of which the others are lost for good is the only one, with its own data', async () => {
    const [first, fourth] = [cluster.host(1), cluster.host(4)];
    await cluster.undisturbed([first, fourth], {}, async () => {
      for (const number of [2, 3]) await cluster.host(number).switchOff();
      await cluster.shows(first, /no quorum[^]*^- .*cluster restore --own-data\.$/m);
      const { status, stderr } = await first.tryCalico('cluster', 'leave');
      assert.equal(status, 1);
      assert.match(
        stderr,
        /^calico-cnm: the cluster does not respond \(.*restore FILE\) or .*--own-data\), or .*leave --force$/m,
      );
      const restored = await first.host.exec(
        ['calico-cnm', 'cluster', 'restore', '--own-data', '--wait', '15'],
        { timeoutMs: 150_000 },
      );
      assert.match(restored.stdout, /^etcd was restored from /m, restored.stderr);
      assert.match(restored.stdout, /^node host-2 has not responded/m);
      assert.doesNotMatch(restored.stdout, /conflict|node host-4/);
      await cluster.shows(first, /: 1 of 1 members respond/);
      await cluster.allocate(first, fourth);
      await cluster.well(fourth);
    });
    await reachability([...first.containers, ...fourth.containers], 'all');
    assert.match(await first.calico('get', 'gnp'), /no-81/);
  });

  test('a member that has lost its etcd for good goes on alone', async () => {
    const first = cluster.host(1);
    await first.host.run(['systemctl', 'stop', 'calico-cnm-etcd.service']);
    await first.host.run(['sh', '-c', 'rm -rf /var/lib/calico/cluster/etcd/data*']);
    const none = await first.tryCalico('cluster', 'restore', '--own-data');
    assert.match(
      none.stderr,
      /^calico-cnm: the etcd of this host has no data; run the command on/m,
    );
    await leaveByForce(first);
  });

  test('a client whose members are all lost for good goes on alone, after a restart too', async () => {
    const fourth = cluster.host(4);
    await cluster.host(1).switchOff();
    const { status, stderr } = await fourth.tryCalico('cluster', 'leave');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: the cluster does not respond \(.*\): .*leave --force$/m);
    assert.doesNotMatch(stderr, /backup/);
    const lost = await fourth.tryCalico('cluster', 'status');
    assert.match(
      lost.stderr,
      /no member of the cluster responds.*calico-cnm cluster leave --force/,
    );
    // Now it knows the cluster by its snapshot alone.
    await fourth.host.stopCalico();
    await fourth.startCalico();
    const said = await leaveByForce(fourth);
    assert.match(said, /^the data is that of \S+Z, when this host last read the cluster$/m);
    await fourth.host.stopCalico();
    await fourth.startCalico();
    await cluster.well(fourth);
    await cluster.allocate(fourth);
    cluster.succeeded(fourth, await fourth.tryCalico('cluster', 'init'));
    await cluster.healthy(fourth, 1);
    await reachability(fourth.containers, 'all');
  });
});
