import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import { pingFlow } from '../lab/cluster/flows.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { unlessLong } from '../lab/long.ts';
import type { CommandResult } from '../lab/process.ts';

/** Hosts with containers of their own join the cluster of the first host. */
describe('cluster join', { timeout: 600_000 }, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ topology: oneSegment(4), joined: 1 });
    // A member permits the endpoints of a namespace when a host has a network there.
    await cluster.network('web', { ipv6: false, options: { namespace: 'shop' } });
    await hosts().first.run('on-1', { network: 'web', address });
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  type Host = Cluster['hosts'][number];
  const hosts = () => {
    const [first, second, third, fourth] = cluster.hosts;
    assert.ok(first && second && third && fourth);
    return { first, second, third, fourth };
  };
  const etcdctl = (...argv: readonly string[]) =>
    (cluster.etcd[0] ?? assert.fail()).etcdctl(...argv);
  /** Returns a token as `cluster token create` prints it, once the host serves joins. */
  const newToken = async (): Promise<string> => {
    const printed = await hosts().first.calico('cluster', 'token', 'create');
    const [, server, token] =
      /^calico-cnm cluster join (\S+) (\S+)\n\(for one host, until 20\S+Z\)$/.exec(printed) ?? [];
    assert.equal(server, '198.18.1.11:2381');
    return token ?? assert.fail(printed);
  };
  const join = (host: Host, token: string, ...more: readonly string[]) =>
    host.tryCalico('cluster', 'join', member, token, ...more);
  const member = '198.18.1.11:2381';
  /** Of a container on the first and of one on the second host. */
  const address = '10.64.0.9';
  /** Asserts that a command failed with this as its last line. */
  const refused = (result: CommandResult, sentence: RegExp) => {
    const said = `${result.stdout}${result.stderr}`;
    assert.equal(result.status, 1, said);
    assert.match(result.stderr.trimEnd().split('\n').at(-1) ?? '', sentence);
  };
  const isAlone = async (host: Host) =>
    assert.match(
      (await host.tryCalico('status')).stdout,
      /datastore: \/var\/lib\/calico\/calico\.db/,
    );
  const joined = async (host: Host, result: CommandResult) => {
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}\n${host.host.calicoLog()}`);
    assert.match(result.stdout, new RegExp(`^this host \\(node ${host.name}\\) has joined\\n$`));
    const status = (await host.tryCalico('status')).stdout;
    assert.match(status, /datastore: https:\/\/192\.0\.2\.1:2379/);
    assert.match(status, /: healthy/);
    // What the move needs is taken away again.
    assert.doesNotMatch(etcdctl('role', 'list'), new RegExp(`^move\\.${host.name}$`, 'm'));
    assert.match(await hosts().first.calico('node', 'status'), new RegExp(host.name));
  };

  test('a wrong token, address or member is refused in one sentence, and changes nothing', async () => {
    const { second } = hosts();
    const token = await newToken();
    const foreign = token.replace(/[^.]+$/, 'A'.repeat(43));
    refused(await join(second, foreign), /has another fingerprint; check the address/);
    const elsewhere = await second.tryCalico('cluster', 'join', '198.18.1.13', token);
    refused(elsewhere, /: cannot reach 198\.18\.1\.13:2381 \(.*ECONNREFUSED.*\); check/);
    await isAlone(second);
  });

  test('a host with containers of the same addresses gets a list, renumbers, and joins while they run', async () => {
    const { first, second } = hosts();
    await second.run('on-2', { network: 'web', address });
    const token = await newToken();
    const result = await join(second, token);
    refused(result, /because of the conflict above, and nothing was changed; remove it/);
    await isAlone(second);
    assert.match(
      result.stderr,
      /^- 10\.64\.0\.9 \(container on-2 of network web\) in block 10\.64\.0\.0\/26 of this host, but block 10\.64\.0\.0\/26 belongs to host host-1, which uses 1 of them; renumber the containers$/m,
    );
    // As it says.
    const [pool] = /\{kind: IPPool.*\}/.exec(result.stderr) ?? [];
    const apply = (input: string) => second.host.run(['calico-cnm', 'apply', '-f', '-'], { input });
    await apply(pool ?? assert.fail(result.stderr));
    const former = await second.calico('get', 'ippool', 'default-ipv4-ippool', '-o', 'yaml');
    await apply(former.replace(/^spec:$/m, 'spec:\n  disabled: true'));
    await second.remove('on-2');
    const on2 = await second.run('on-2', { network: 'web' });
    const local = await second.run('local', { network: 'web' });
    const [to = ''] = local.addresses;
    assert.match(to, /^10\.66\./);
    await second.calico('delete', 'ippool', 'default-ipv4-ippool');
    const flow = await pingFlow(on2, local, to);
    await joined(second, await join(second, token));
    assert.equal(await flow.lost(), '');
    await reachability([...first.containers, ...second.containers], 'all');
    const again = await join(second, token);
    assert.equal(again.stdout, 'this host (node host-2) joined before\n');
  });

  test('killed at each of its steps it goes on when it is run again', async () => {
    const { third } = hosts();
    const token = await newToken();
    const argv = ['calico-cnm', 'cluster', 'join', member, token];
    let killed = 0;
    const step = unlessLong() === false ? 1 : 2;
    // Before the second line nothing has changed.
    for (let lines = 2; lines < 30; lines += step) {
      const running = third.host.spawn(argv);
      const count = () => running.output().split('\n').length - 1;
      while (running.status === undefined && count() < lines) await sleep(5);
      if (running.status !== undefined) break;
      await running.end('SIGKILL');
      killed++;
    }
    assert.ok(killed >= 4 / step, `killed ${killed} times`);
    const result = await join(third, token);
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`);
    await joined(third, { ...result, stdout: 'this host (node host-3) has joined\n' });
    await third.run('on-3', { network: 'web' });
    await reachability(cluster.containers, 'all');
    assert.match(
      await third.calico('get', 'wep', '-n', 'shop'),
      /^on-3 +host-3 .* web,kns\.shop$/m,
    );
  });

  test('a token that was used or has expired is refused, and guessing is limited', async () => {
    const { fourth } = hosts();
    const used = await newToken();
    const [id = ''] = used.split('.');
    const key = `/calico-cnm/cluster/tokens/${id}`;
    const record = etcdctl('get', '--print-value-only', key).trim();
    etcdctl('put', key, record.replace('}', ',"join":"other"}'));
    refused(
      await join(fourth, used),
      /because another host has used it; create another one on a member/,
    );
    etcdctl('put', key, record.replace(/"expires":"20\d\d/, '"expires":"2020'));
    refused(await join(fourth, used), /because it has expired; create another one/);
    etcdctl('put', key, record);
    const guess = used.replace(/\.[^.]+\./, `.${'x'.repeat(22)}.`);
    for (let attempt = 0; attempt < 3; attempt++) {
      refused(await join(fourth, guess), /the cluster does not know this token/);
    }
    refused(
      await join(fourth, used),
      /too many wrong tokens from this address; try again in \d+ s$/,
    );
    await isAlone(fourth);
  });
});
