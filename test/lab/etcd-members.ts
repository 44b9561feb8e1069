import { readIfPresent } from '../../src/async/replace-file.ts';
import { execFileSync } from 'node:child_process';
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Work } from '../../src/async/supervise.ts';
import { putNodeUser } from '../../src/cluster/auth.ts';
import { clusterPaths, type ClusterPaths } from '../../src/cluster/cluster-file.ts';
import { EtcdAdmin } from '../../src/cluster/etcd/admin.ts';
import { clientPort, etcdUnit, etcdUrl } from '../../src/cluster/etcd/configuration.ts';
import { followOwnRecord, type HostMemberDeps } from '../../src/cluster/etcd/host-member.ts';
import {
  adminOptions,
  hasAdminCredential,
  nodeOptions,
  openEtcd,
} from '../../src/cluster/etcd-access.ts';
import { keepMembers } from '../../src/cluster/etcd/keeper.ts';
import { installedVersion } from '../../src/cluster/etcd/package.ts';
import {
  beginCluster,
  createCertificates,
  startFirstMember,
  writeFirstRecords,
} from '../../src/cluster/first-member.ts';
import {
  issueOwnCertificates,
  memberCertificates,
} from '../../src/cluster/pki/own-certificates.ts';
import { updateHost } from '../../src/cluster/records.ts';
import { etcdUserOf } from '../../src/cluster/roles.ts';
import type { Datastore } from '../../src/datastore/datastore.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { entryTypeOf } from '../../src/model/kinds/index.ts';
import { liveReportId } from '../../src/model/kinds/node-report.ts';
import { makeTemporaryFolder } from './temporary-folder.ts';
import { ProcessUnits } from './process-units.ts';

const addressOf = (number: number): string => `192.0.2.${10 + number}`;
/** Between addresses of one `lo`, a connection comes from the address that it goes to. */
const allAddresses = [1, 2, 3, 4, 5, 6].map(addressOf);

const never = new AbortController().signal;

/**
 * A host as far as the membership of etcd needs it: an address on `lo`, a folder, and the two loops that its daemon
 * has. All hosts are in the network namespace of this process.
 */
export class MemberHost implements AsyncDisposable {
  readonly node: string;
  address: string;
  readonly paths: ClusterPaths;
  readonly units = new ProcessUnits();
  readonly #cluster: MemberCluster;
  #stop = new AbortController();
  #loops: Promise<unknown> = Promise.resolve();
  /** The version that it reports. */
  version: string | undefined;

  constructor(cluster: MemberCluster, number: number, folder: string) {
    this.#cluster = cluster;
    this.node = `host-${number}`;
    this.address = addressOf(number);
    this.paths = clusterPaths({ datastoreFile: join(folder, this.node, 'calico.db') });
    execFileSync('ip', ['address', 'add', `${this.address}/32`, 'dev', 'lo']);
  }

  get first() {
    const { node, address, paths, units } = this;
    return { node, address, names: allAddresses, paths, units };
  }

  get url(): string {
    return etcdUrl(this.address, clientPort);
  }

  /** Its daemon starts. */
  startDaemon(): void {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    this.#loops = Promise.allSettled([
      this.#report(signal),
      this.#keep(signal),
      this.#follow(signal),
    ]);
  }

  async stopDaemon(): Promise<void> {
    this.#stop.abort();
    await this.#loops;
  }

  async #report(signal: AbortSignal): Promise<void> {
    const key = entryTypeOf.NodeReport.key(liveReportId(this.node));
    await using store = await this.#cluster.open();
    const lease = await store.datastore.leases?.grant(5);
    const value = JSON.stringify({ time: new Date().toISOString(), uptime: 1, first_update: true });
    const {
      items: [present],
    } = await store.datastore.read([key], never);
    await store.datastore.commit(
      {
        compares: [{ key, modRevision: present?.modRevision ?? 0n }],
        writes: [{ key, value, ...(lease === undefined ? {} : { lease }) }],
      },
      never,
    );
    while (!signal.aborted) {
      await sleep(500);
      if (lease !== undefined) await store.datastore.leases?.renew(lease).catch(() => undefined);
    }
    if (lease !== undefined) await store.datastore.leases?.revoke(lease).catch(() => undefined);
  }

  async #keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!hasAdminCredential(this.paths)) {
        await sleep(100);
        continue;
      }
      const { endpoints } = this.#cluster;
      await using opened = await openEtcd(adminOptions(this.paths, endpoints));
      await keepMembers(
        {
          ...opened,
          node: this.node,
          log: this.#cluster.log(this.node),
          onMembers: () => this.#cluster.endpoints.join() !== endpoints.join(),
        },
        this.#work('keeper'),
        signal,
      );
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    await using store = await this.#cluster.open();
    await followOwnRecord(this.memberDeps(store.datastore), this.#work('member'), signal);
  }

  memberDeps(datastore: Datastore): HostMemberDeps {
    const { node, paths, units } = this;
    const first = this.#cluster.host(1);
    return {
      node,
      cluster: this.#cluster.uid,
      datastore,
      paths,
      units,
      address: () => this.address,
      hasAddress: (address) => address === this.address,
      etcdVersion: async () => this.version ?? (await installedVersion()) ?? assert.fail(),
      bringFiles: async () => {
        mkdirSync(dirname(paths.caKey), { recursive: true });
        for (const file of ['ca', 'caKey'] as const) copyFileSync(first.paths[file], paths[file]);
        await this.issue();
      },
      removeFiles: () => Promise.resolve(),
      members: async () => (await this.#cluster.admin()).members(),
      log: this.#cluster.log(node),
    };
  }

  /** Gets another address, as by DHCP; the former one is gone at once. */
  moveTo(number: number): void {
    const former = this.address;
    this.address = addressOf(number);
    execFileSync('ip', ['address', 'add', `${this.address}/32`, 'dev', 'lo']);
    execFileSync('ip', ['address', 'del', `${former}/32`, 'dev', 'lo']);
  }

  /** Issues its certificates; `ca.key` must be there. */
  async issue(): Promise<void> {
    const { paths, node } = this;
    const authority = {
      certificate: readIfPresent(paths.ca) ?? '',
      key: readIfPresent(paths.caKey) ?? '',
    };
    const wanted = { user: etcdUserOf(node), names: allAddresses };
    await issueOwnCertificates(authority, memberCertificates(paths, wanted), new Date());
  }

  #work(name: string): Work {
    return new Work(`${this.node} ${name}`, {
      onFailure: ({ error }) => this.#cluster.log(this.node).info(`${name} failed`, { error }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopDaemon();
    await this.units[Symbol.asyncDispose]();
  }
}

/** Hosts that share an etcd of their own. */
export class MemberCluster implements AsyncDisposable {
  readonly hosts: MemberHost[] = [];
  readonly lines: string[] = [];
  uid = '';
  readonly #made = new AsyncDisposableStack();
  readonly #folder: string;
  #admin: EtcdAdmin | undefined;
  #endpoints: readonly string[] = [];

  constructor() {
    this.#folder = this.#made.use(makeTemporaryFolder('calico-members-')).path;
  }

  /** Creates the first member. */
  async init(members: 1 | 3 | 5 = 3): Promise<MemberHost> {
    const host = this.addHost();
    const file = beginCluster(host.first);
    this.uid = file.uid;
    this.#endpoints = [host.url];
    await createCertificates(host.first, new Date());
    await startFirstMember(host.first, file.uid);
    await writeFirstRecords(host.first, {
      settings: { members },
      now: new Date('2026-01-01T00:00:01Z'),
      signal: never,
    });
    host.startDaemon();
    return host;
  }

  addHost(): MemberHost {
    const host = this.#made.use(new MemberHost(this, this.hosts.length + 1, this.#folder));
    this.hosts.push(host);
    return host;
  }

  /** Makes a host a client, as a join does, with a daemon that runs. */
  async join(): Promise<MemberHost> {
    const host = this.addHost();
    const { node, address } = host;
    await putNodeUser((await this.admin()).client.auth, node);
    await using store = await this.open();
    const joined = new Date(Date.UTC(2026, 0, 1, 0, 0, this.hosts.length)).toISOString();
    await updateHost(
      store.datastore,
      node,
      () => ({ address, joined, wanted: 'client', attempt: 0 }),
      never,
    );
    host.startDaemon();
    return host;
  }

  host(number: number): MemberHost {
    return this.hosts[number - 1] ?? assert.fail(`no host ${number}`);
  }

  /** The endpoints of the voters, as `voters` has seen them last. */
  get endpoints(): readonly string[] {
    return this.#endpoints;
  }

  async admin(): Promise<EtcdAdmin> {
    this.#admin ??= await EtcdAdmin.open(adminOptions(this.host(1).paths, this.#endpoints));
    return this.#admin;
  }

  /** The datastore with the administrator's credential. */
  async open(): Promise<{ readonly datastore: Datastore } & AsyncDisposable> {
    const options = adminOptions(this.host(1).paths, this.#endpoints);
    const datastore = await openDatastore(options);
    return { datastore, [Symbol.asyncDispose]: () => datastore.close() };
  }

  /** As `open`, with the credential of a node. */
  openAs(host: MemberHost): Promise<Datastore> {
    return openDatastore(nodeOptions(host.paths, this.#endpoints));
  }

  log(node: string) {
    return {
      info: (event: string, fields: Readonly<Record<string, unknown>> = {}) => {
        this.lines.push(
          `${new Date().toISOString().slice(14, 23)} ${node} ${event} ${JSON.stringify(fields, (_, value: unknown) => (value instanceof Error ? value.message : value))}`,
        );
      },
    };
  }

  /** Waits until exactly these hosts are voters, and nobody is a learner. */
  async voters(...numbers: readonly number[]): Promise<void> {
    const wanted = numbers.map((number) => this.host(number).node).toSorted();
    const end = Date.now() + 60_000;
    for (;;) {
      const members = await (await this.admin()).members().catch(() => []);
      const names = members.map(({ name, isLearner }) => (isLearner ? `${name}?` : name));
      if (names.toSorted().join() === wanted.join()) {
        this.#endpoints = numbers.map((number) => this.host(number).url);
        this.#admin?.close();
        this.#admin = undefined;
        return;
      }
      if (Date.now() > end) {
        assert.fail(
          `members ${names.join()}, not ${wanted.join()}:\n${[...this.lines, ...this.hosts.map(({ units }) => units.log.slice(-1500))].join('\n')}`,
        );
      }
      await sleep(100);
    }
  }

  /** Begins to measure for how long two members have a vote; the returned function ends it, in milliseconds. */
  twoVoters(): () => Promise<number> {
    const done = new AbortController();
    const measured = (async () => {
      const admin = await EtcdAdmin.open(adminOptions(this.host(1).paths, [this.host(1).url]));
      let [first, last] = [0, 0];
      while (!done.signal.aborted) {
        const members = await admin.members().catch(() => []);
        const now = performance.now();
        if (members.filter(({ isLearner }) => !isLearner).length === 2) {
          first ||= now;
          last = now;
        }
        await sleep(10);
      }
      admin.close();
      return last - first;
    })();
    return () => {
      done.abort();
      return measured;
    };
  }

  /** Kills etcd of a host for good. */
  async loseEtcd(number: number): Promise<void> {
    await this.host(number).units.stop(etcdUnit, 'SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.stopDaemon()));
    this.#admin?.close();
    await this.#made[Symbol.asyncDispose]();
  }
}
