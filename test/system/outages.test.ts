import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test, type TestContext } from 'node:test';
import { AddressChurn } from '../lab/cluster/address-churn.ts';
import { checkCalls, type LoggedCall } from '../lab/call-log.ts';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { coreAddress, twoSubnets } from '../lab/cluster/fabric.ts';
import { flowsDuring, pingFlow, tcpFlow } from '../lab/cluster/flows.ts';
import { unlessLong } from '../lab/long.ts';
import type { Peer } from '../lab/cluster/peer.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { becomesText } from '../lab/poll.ts';

const isLong = unlessLong() === false;

/** Docker does this when it starts. */
async function forward({ host }: ClusterHost): Promise<void> {
  await host.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
}

/**
 * Outages of etcd and of hosts, one after the other, while every host allocates and releases addresses all the time.
 * After each fault everything must be as if it had not been; at the end the history of all calls is checked.
 */
describe('outages', { timeout: isLong ? 1_800_000 : 400_000 }, () => {
  let cluster: Cluster;
  let allChurns: readonly AddressChurn[] = [];
  let churns: readonly AddressChurn[] = [];
  const died: { readonly host: string; readonly at: number }[] = [];
  const started: LoggedCall[] = [];
  before(async () => {
    cluster = await startCluster({
      topology: twoSubnets(2, 1),
      etcdMembers: 3,
      disks: true,
    });
    const [first] = cluster.hosts;
    assert.ok(first);
    const pools = await first.calico('get', 'ippool', '-o', 'yaml');
    const input = pools.replaceAll(/vxlanMode: \w+/g, 'vxlanMode: CrossSubnet');
    await first.host.run(['sh', '-c', 'cat >/run/pools.yaml'], { input });
    await first.calico('apply', '-f', '/run/pools.yaml');
    await Promise.all(cluster.hosts.map(forward));
    await cluster.network('web');
    await Promise.all(cluster.hosts.map((host) => run(host, `on-${host.name}`)));
    allChurns = cluster.hosts.map((host) => new AddressChurn(host.name, () => host.host));
    churns = allChurns;
    await reachability(cluster.containers, 'all');
  });
  after(async () => {
    await Promise.all(churns.map((churn) => churn.stop()));
    await cluster?.[Symbol.asyncDispose]();
  });

  const parts = () => {
    const [first, second, third] = cluster.hosts;
    const [one, two, three] = cluster.etcd;
    assert.ok(first && second && third && one && two && three);
    return { first, second, third, one, two, three };
  };
  const run = async (host: ClusterHost, name: string): Promise<Peer> => {
    const from = Date.now();
    const peer = await host.run(name, { network: 'web' });
    started.push({
      host: host.name,
      method: 'IpamDriver.RequestAddress',
      from,
      to: Date.now(),
      asked: { PoolID: 'web', Address: '' },
      answered: { Address: peer.addresses[0] },
    });
    return peer;
  };
  const removeAgain = async (host: ClusterHost, { name, addresses }: Peer) => {
    const from = Date.now();
    await host.remove(name);
    started.push({
      host: host.name,
      method: 'IpamDriver.ReleaseAddress',
      from,
      to: Date.now(),
      asked: { PoolID: 'web', Address: addresses[0] },
      answered: {},
    });
  };
  const containerOn = (host: ClusterHost): Peer =>
    cluster.containers.find(({ name }) => name === `on-${host.name}`) ?? assert.fail();
  const said = async (host: ClusterHost, ...argv: readonly string[]) => {
    const { stdout, stderr } = await host.tryCalico(...argv);
    return stdout + stderr;
  };
  const stopAll = () => Promise.all(cluster.etcd.map((member) => member.stop()));
  const startAll = () => Promise.all(cluster.etcd.map((member) => member.start()));
  /** Every host allocates, and containers reach each other. */
  const isWell = async (context: TestContext) => {
    const ended = Date.now();
    await Promise.all(churns.map((churn) => churn.allocates(3)));
    const allocatedMs = Date.now() - ended;
    await reachability(cluster.containers, 'all');
    const reachedMs = Date.now() - ended;
    context.diagnostic(`allocations ${allocatedMs} ms, all pairs ${reachedMs} ms after the fault`);
  };
  const flows = async () => {
    const { first, second, third } = parts();
    const [a, b, c] = [first, second, third].map(containerOn);
    assert.ok(a && b && c);
    const [four = '', six = ''] = c.addresses;
    return Promise.all([
      pingFlow(a, b, b.addresses[0] ?? ''),
      pingFlow(b, c, four),
      pingFlow(a, c, six),
      tcpFlow(c, a, a.addresses[0] ?? ''),
      tcpFlow(a, c, six),
    ]);
  };

  test('with one member of etcd lost, no command and no allocation fails, from the first on', async (context) => {
    const { first } = parts();
    const refused = churns.flatMap((churn) => churn.refused).length;
    const use = async (name: string) => {
      await Promise.all(['a', 'b'].map((one) => first.calico('profile', 'add', `${name}-${one}`)));
      await Promise.all(churns.map((churn) => churn.allocates(5)));
    };
    for (const [index, member] of cluster.etcd.entries()) {
      if (isLong || index === 0) {
        await member.stop();
        await use(`stopped-${index}`);
        await member.start();
      }
      if (isLong || index === 1) {
        member.stall();
        await use(`stalled-${index}`);
        member.resume();
      }
    }
    assert.deepEqual(churns.flatMap((churn) => churn.refused).slice(refused), []);
    await isWell(context);
  });

  test(
    'with two members stalled allocations are refused with a sentence, and containers notice nothing',
    { skip: unlessLong() },
    async (context) => {
      const { one, two } = parts();
      await flowsDuring(await flows(), async () => {
        one.stall();
        two.stall();
        for (const churn of churns) assert.match(await churn.refuses(), /datastore https:.*/);
        await reachability(cluster.containers, 'all');
        one.resume();
        two.resume();
        await isWell(context);
      });
    },
  );

  test('with all of etcd lost nothing is lost, also when a daemon is killed and works from its snapshot', async (context) => {
    const { second } = parts();
    await flowsDuring(await flows(), async () => {
      await stopAll();
      const refusals = await Promise.all(churns.map((churn) => churn.refuses()));
      for (const refusal of refusals) assert.match(refusal, /datastore https:\S+ is unavailable/);
      await second.host.killCalico();
      // A member has been replaced meanwhile.
      await second.startCalico({ ETCD_ENDPOINTS: `https://${coreAddress(3)}:2379` });
      assert.match(
        await said(second, 'node', 'status'),
        /^Node host-2.*\n +FAIL datastore: from a snapshot of 20\S+Z; https:.* is unavailable/,
      );
      await reachability(cluster.containers, 'all');
      await startAll();
      await becomesText(() => said(second, 'node', 'status'), /\n +datastore: .*, in sync since/);
      await second.host.stopCalico();
      await second.startCalico();
      await isWell(context);
    });
  });

  test(
    'with all of etcd lost for minutes nothing is lost, whatever daemon restarts, and then all of it converges',
    { skip: unlessLong(), timeout: 900_000 },
    async (context) => {
      const { first, second, third } = parts();
      const leaver = await run(third, 'leaver');
      const until = Date.now() + 200_000;
      await flowsDuring(await flows(), async () => {
        await stopAll();
        for (const churn of churns) assert.match(await churn.refuses(), /datastore https:/);
        await assert.rejects(first.run('late', { network: 'web' }), /is unavailable/);
        // It is gone, and its address and endpoint are left.
        await assert.rejects(third.remove('leaver'), /is unavailable/);
        for (let turn = 0; Date.now() < until; turn++) {
          const host = [first, second, third][turn % 3] ?? first;
          if (turn % 2 === 0) await host.host.killCalico();
          else await host.host.stopCalico();
          await host.startCalico();
          await reachability(cluster.containers, 'all');
          assert.match(await said(host, 'status'), /FAIL +datastore: from a snapshot of 20/);
          await sleep(5000);
        }
        await startAll();
        for (const host of [first, second, third]) {
          await becomesText(() => said(host, 'status'), /ok +datastore: .*, in sync since/);
        }
        await isWell(context);
      });
      const late = await run(first, 'late');
      await isWell(context);
      await removeAgain(first, late);
      const [address = ''] = leaver.addresses;
      const endpoints = () => said(first, 'get', 'workloadendpoint', '-o', 'wide');
      const deadline = Date.now() + 420_000;
      while ((await endpoints()).includes(`${address}/`) && Date.now() < deadline) {
        await sleep(5000);
      }
      assert.ok(
        !(await endpoints()).includes(`${address}/`),
        'the endpoint of leaver is reclaimed',
      );
      // Those that the hosts request all the time have no endpoint.
      await becomesText(
        async () => `\n${await said(first, 'ipam', 'check')}`,
        /^(?![^]*\n(10\.64\.|fd00:64:))/,
      );
    },
  );

  test('a host that was cut off has what changed meanwhile within seconds', async (context) => {
    const { first, third } = parts();
    await third.cable.cut();
    const isAlone = (from: Peer, to: Peer) =>
      from.on === to.on || ![from.on, to.on].includes('host-3');
    await run(first, 'later');
    await reachability(cluster.containers, isAlone);
    await third.cable.mend();
    await isWell(context);
  });

  test(
    'a host that boots while all of etcd is away works from its snapshot, and is itself again',
    { skip: unlessLong() },
    async (context) => {
      const { second } = parts();
      await stopAll();
      await second.switchOff();
      died.push({ host: second.name, at: Date.now() });
      await second.switchOn();
      await becomesText(
        () => said(second, 'node', 'status'),
        /FAIL datastore: from a snapshot of 20\S+Z; https:/,
      );
      await startAll();
      await becomesText(() => said(second, 'node', 'status'), /\n +datastore: .*, in sync since/);
      await forward(second);
      await second.network('web');
      await run(second, 'on-host-2');
      await isWell(context);
    },
  );

  test('a host that is gone for good is deleted: its routes and addresses too', async (context) => {
    const { first, second, third } = parts();
    const addresses = containerOn(third).addresses;
    await churns[2]?.stop();
    await third.switchOff();
    died.push({ host: third.name, at: Date.now() });
    churns = churns.slice(0, 2);
    // Its report expires 90 s after its last sign of life.
    const force = isLong ? [] : ['--force'];
    assert.match(await said(first, 'node', 'delete', 'host-3'), /host-3 is running \(since/);
    await becomesText(
      () => said(first, 'node', 'delete', ...force, 'host-3'),
      /Node host-3 deleted/,
    );
    for (const host of [first, second]) {
      const routes = async () =>
        (
          await Promise.all(
            addresses.map((address) =>
              host.host.run(['ip', 'route', 'get', address]).catch(String),
            ),
          )
        ).join('\n');
      await becomesText(routes, /^((?!vxlan)[^])*$/);
    }
    await isWell(context);
  });

  test('in the whole history of calls, no address was held twice', async (context) => {
    await Promise.all(churns.map((churn) => churn.stop()));
    const calls = [...allChurns.flatMap((churn) => churn.calls), ...started];
    const { problems, given } = checkCalls(calls, died, (poolId) => poolId !== 'web');
    context.diagnostic(`${given} addresses were given`);
    assert.ok(given > 100);
    for (const problem of problems) {
      const [, address = ''] = problem.split(' ');
      const isOfAddress = ({ asked, answered }: LoggedCall) =>
        [asked['Address'], answered['Address']].some(
          (one) => String(one).replace(/\/\d+$/, '') === address,
        );
      for (const call of calls.filter(isOfAddress).slice(-12)) {
        context.diagnostic(`${new Date(call.from).toISOString()} ${JSON.stringify(call)}`);
      }
    }
    assert.deepEqual(problems, []);
  });
});
