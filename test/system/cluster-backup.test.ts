import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { inBackground } from '../../src/async/background.fixture.ts';
import { Work } from '../../src/async/supervise.ts';
import { nodeScope } from '../../src/cache/cache-scope.ts';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import { adminOptions } from '../../src/cluster/etcd-access.ts';
import { backUp } from '../../src/cluster/restoring/backup.ts';
import { checkAddresses } from '../../src/cluster/restoring/check-addresses.ts';
import { restoreMember } from '../../src/cluster/restoring/restore-member.ts';
import { RestoredDatastore } from '../../src/daemon/restored-datastore.ts';
import { bootstrap } from '../../src/datastore/bootstrap.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { MovableDatastore } from '../../src/datastore/movable-datastore.ts';
import type { Draft } from '../../src/datastore/writer.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import { holderWith } from '../../src/ipam/docker/addresses.ts';
import { allocateAny } from '../../src/ipam/pools/address-state.ts';
import { findAllocation } from '../../src/ipam/records/allocation.ts';
import { parseAddress, type IpAddress } from '../../src/ip/address.ts';
import type { IpPool } from '../../src/model/kinds/ip-pool.ts';
import { endpointName } from '../../src/model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../../src/model/namespaces.ts';
import { UncachedView } from '../../src/cache/uncached-view.ts';
import { createLogger } from '../../src/telemetry/log.ts';
import { isMirrorLocked } from '../../src/cache/lock.ts';
import { etcdUnit } from '../../src/cluster/etcd/configuration.ts';
import { MemberCluster, type MemberHost } from '../lab/etcd-members.ts';
import { enterNewNamespace, type OwnNamespace } from '../lab/namespace.ts';
import { eventually } from '../lab/poll.ts';
import { makeTemporaryFolder } from '../lab/temporary-folder.ts';

const signal = AbortSignal.timeout(600_000);
const now = () => new Date();

const pool: IpPool = {
  kind: 'IPPool',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'default-ipv4-ippool' },
  spec: { cidr: parseCidr('10.65.0.0/16'), blockSize: 29, nodeSelector: 'all()' },
};

/** What of a daemon follows the datastore and allocates addresses. */
class Daemon implements AsyncDisposable {
  readonly node: string;
  readonly writer: GroupWriter;
  readonly mirror: LiveMirror;
  readonly restored: RestoredDatastore;
  readonly addresses = new Map<string, IpAddress>();
  readonly #datastore: MovableDatastore;
  readonly #running: readonly ReturnType<typeof inBackground>[];

  constructor(node: string, datastore: Awaited<ReturnType<MemberCluster['openAs']>>) {
    this.node = node;
    this.#datastore = new MovableDatastore(datastore, (after) => this.restored.takeUp(after));
    this.mirror = new LiveMirror(this.#datastore, undefined, undefined, undefined, nodeScope(node));
    this.writer = new GroupWriter(this.mirror);
    const log = createLogger({ level: 'error', write: () => undefined, now });
    this.restored = new RestoredDatastore({
      node,
      datastore: this.#datastore,
      mirror: this.mirror,
      writer: this.writer,
      readLast: async () => undefined,
      log,
      now,
      signal,
    });
    const work = new Work('restored', { onFailure: () => undefined });
    this.#running = [
      inBackground((stop) => this.mirror.run(stop)),
      inBackground((stop) => this.restored.run(work, stop)),
    ];
  }

  /** Starts a container, while etcd responds. */
  async start(name: string): Promise<void> {
    const plan = (draft: Draft) => {
      const pools = [...draft.entries('IPPool')].map(([, value]) => value);
      const { node } = this;
      const facts = { node, pool: 'x', endpoint: name };
      const holder = (address: IpAddress) => holderWith(address, facts);
      const address = allocateAny(draft, { node, pools, holder, now: now() });
      assert.ok(address !== undefined);
      const id = endpointName(node, name);
      draft.put('WorkloadEndpoint', `${defaultNamespace}/${id}`, {
        kind: 'WorkloadEndpoint',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: id, namespace: defaultNamespace },
        spec: {
          node,
          endpoint: name,
          interfaceName: 'cali0',
          orchestrator: 'libnetwork',
          ipNetworks: [parseCidr(`${address}/32`)],
        },
      });
      return address;
    };
    this.addresses.set(name, (await this.writer.write(plan, signal)).result);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#running.map((one) => one.stop()));
    await this.#datastore.close();
  }
}

/** Two of three members are lost, and the backup is older than what runs. */
describe('backup and restore of a cluster', { timeout: 600_000 }, () => {
  let namespace: OwnNamespace;
  let cluster: MemberCluster;
  const made = new AsyncDisposableStack();
  const daemons: Daemon[] = [];
  let file = '';

  before(async () => {
    namespace = enterNewNamespace();
    cluster = made.use(new MemberCluster());
    file = join(made.use(makeTemporaryFolder('calico-backup-')).path, 'backup.db');
    await cluster.init();
    await cluster.join();
    await cluster.join();
    await cluster.voters(1, 2, 3);
    await using store = await cluster.open();
    const writer = new GroupWriter(new UncachedView(store.datastore));
    for (const number of [1, 2]) {
      const { node } = cluster.host(number);
      const stamp = <R>(resource: R) => resource;
      await writer.write((draft) => bootstrap(draft, { nodeName: node, stamp }), signal);
    }
    await writer.write((draft) => draft.put('IPPool', pool.metadata.name, pool), signal);
    for (const number of [1, 2]) {
      const host = cluster.host(number);
      const daemon = made.use(new Daemon(host.node, await cluster.openAs(host)));
      await daemon.mirror.reached(0n, signal);
      daemons.push(daemon);
    }
  });
  after(async () => {
    try {
      await made[Symbol.asyncDispose]();
    } finally {
      namespace?.[Symbol.dispose]();
    }
  });

  const startOnBoth = (...names: readonly string[]) =>
    Promise.all(
      daemons.map(async (daemon) => {
        for (const name of names) await daemon.start(`${name}-${daemon.node}`);
      }),
    );
  const access = (host: MemberHost) => adminOptions(host.paths, [host.url]);

  test('a backup is complete, and its owner alone can read it', async () => {
    await startOnBoth('a', 'b');
    const bytes = await backUp(access(cluster.host(1)), file);
    assert.equal(statSync(file).size, bytes);
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  test('after the restore nothing that runs is allocated again', async () => {
    // More than a block has, so that hosts claim blocks of which the backup knows nothing.
    await startOnBoth(...Array.from({ length: 9 }, (_, n) => `later-${n}`));
    await cluster.host(3).stopDaemon();
    for (const number of [2, 3]) await cluster.host(number).units.remove(etcdUnit);
    const host = cluster.host(1);
    const { node, address, paths, units } = host;
    const lines: string[] = [];
    const progress = (line: string) => lines.push(line);
    const options = { file, node, address, paths, units, now, progress };
    // Interrupted while it waited for the hosts, and run again.
    await restoreMember(options, signal);
    const mark = await restoreMember(options, signal);
    const kept = readdirSync(paths.etcd).filter((name) => name.startsWith('data.before-'));
    assert.deepEqual(kept.toSorted(), ['data.before-restore', 'data.before-restore-2']);
    assert.ok(mark !== undefined);
    const store = await openDatastore(access(host));
    made.defer(() => store.close());
    const { silent, reports } = await checkAddresses(store, mark, {
      waitMs: 60_000,
      progress,
      signal,
    });
    assert.deepEqual(silent, []);
    assert.deepEqual(
      reports.map((report) => [report.node, report.conflicts]),
      [
        ['host-1', []],
        ['host-2', []],
      ],
    );
    // The hosts hear of the end of the lock one after the other.
    assert.ok(await eventually(() => daemons.every(({ mirror }) => !isMirrorLocked(mirror))));
    await startOnBoth('after-a', 'after-b');
    const all = daemons.flatMap(({ addresses }) => [...addresses.values()]);
    assert.equal(new Set(all).size, all.length, 'no address was allocated twice');
    const view = new GroupWriter(new UncachedView(store));
    for (const daemon of daemons) {
      for (const [name, given] of daemon.addresses) {
        const { result } = await view.write(
          (draft) => ({
            holder: findAllocation(draft, parseAddress(given))?.holder.secondary,
            endpoint: draft.get(
              'WorkloadEndpoint',
              `${defaultNamespace}/${endpointName(daemon.node, name)}`,
            ),
          }),
          signal,
        );
        assert.equal(result.holder?.['endpoint'], name);
        assert.ok(result.endpoint !== undefined, `${name} is there`);
      }
    }
  });
});
