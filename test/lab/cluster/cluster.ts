import { built, builtProgram, checkout } from '../built.ts';
import { makeAuthority } from '../certificates.ts';
import { adminUser, etcdUserOf } from '../../../src/cluster/roles.ts';
import { certificatePaths, ClusterHost } from './cluster-host.ts';
import type { NetworkSpec } from './container-engine.ts';
import { startEtcdCluster, type CertificateFiles, type Etcd } from '../etcd.ts';
import type { Engine } from '../engine.ts';
import { coreAddress, placesIn, startFabric, type Fabric, type Topology } from './fabric.ts';
import type { IptablesBackend } from '../machine.ts';
import type { Peer } from './peer.ts';
import { outputOf, ownEnvironment } from '../process.ts';
import { makeTemporaryFolder } from '../temporary-folder.ts';

/** Options of a cluster. */
export interface ClusterOptions {
  readonly topology: Topology;
  /**
   * The Docker Engine of the hosts. Without it their containers are network namespaces (namespace-engine.ts), which
   * start in a fraction of the time.
   */
  readonly docker?: Engine;
  readonly backend?: IptablesBackend;
  /** As of a host (host.ts). */
  readonly furnished?: boolean;
  /** Whether hosts and routers have BIRD 2, FRR and GoBGP; as of a host. */
  readonly routers?: boolean;
  /** Members of etcd; by default 1. They use TLS. */
  readonly etcdMembers?: 1 | 3;
  /** Whether hosts keep their disks when they are switched off; otherwise they come back as new machines. */
  readonly disks?: boolean;
  /**
   * Whether etcd authenticates: each host has the role of its node, and its command line the credential of the
   * administrator, as on a member of a cluster. By default it does; otherwise all share one certificate, as with an etcd
   * that the user runs.
   */
  readonly roles?: boolean;
  /**
   * So many hosts have joined the cluster as `cluster init` does it, and serve others that join; the rest have their own
   * datastore. By default all use etcd by their settings.
   */
  readonly joined?: number;
  /** Settings of calico-cnm on all hosts. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** The pools of a cluster, unless its settings differ. */
export const clusterPools = { v4: '10.64.0.0/16', v6: 'fd00:64::/48' } as const;

/** Starts hosts that share an etcd, each with calico-cnm, in a topology. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  await using made = new AsyncDisposableStack();
  const folder = made.use(makeTemporaryFolder('calico-cluster-')).path;
  const addresses = Array.from({ length: options.etcdMembers ?? 1 }, (_, index) =>
    coreAddress(index + 1),
  );
  const [furnishRoles] = await Promise.all([builtFurnishRoles(), builtProgram()]);
  const machines: (Fabric | ClusterHost)[] = [];
  made.defer(async () => {
    await Promise.all(machines.map((machine) => machine[Symbol.asyncDispose]()));
  });
  const keep = <Made extends Fabric | ClusterHost>(machine: Made): Made => {
    machines.push(machine);
    return machine;
  };
  const { roles = true } = options;
  const places = placesIn(options.topology).map((place, index) => ({
    name: `host-${index + 1}`,
    place,
  }));
  const [certificates, fabric, hosts] = await allSettled([
    issueCertificates(folder, addresses, roles ? places.map(({ name }) => name) : undefined),
    startFabric(options.topology, addresses.length, options.routers).then(keep),
    allSettled(
      places.map((place) => ClusterHost.boot({ ...options, folder, ...place }).then(keep)),
    ),
  ] as const);
  const settings = {
    CALICO_IPV4POOL_CIDR: clusterPools.v4,
    CALICO_IPV6POOL_CIDR: clusterPools.v6,
    ...(options.joined === undefined ? datastoreSettings(addresses) : {}),
    ...options.settings,
  };
  const enter = fabric.machine.enterNetwork;
  const { server, admin, clients, authorityKey } = certificates;
  const startEtcd = async () => {
    const members = await startEtcdCluster(addresses, { enter, tls: server, admin, folder });
    for (const member of members) made.use(member);
    return members;
  };
  const starting = startEtcd();
  const furnish = async () => {
    if (!roles) return;
    const nodes = places.slice(0, options.joined).map(({ name }) => name);
    const hosts = places.slice(0, options.joined ?? 0).map(({ name: node, place }) => ({
      node,
      address: place.address,
    }));
    // It is loaded while etcd starts.
    const input = starting.then((members) =>
      JSON.stringify({
        endpoints: members.map(({ endpoint }) => endpoint),
        admin,
        nodes,
        hosts,
        settings,
      }),
    );
    const script = `${furnishRoles}/main.js`;
    await outputOf([...enter, process.execPath, script], { env: ownEnvironment(), input });
  };
  const [etcd] = await allSettled([starting, furnish(), fabric.connect(hosts)] as const);
  await allSettled(
    hosts.map((host, index) => {
      const client = clients[index] ?? admin;
      const certificates = { certificates: client, admin, authorityKey };
      const endpoints = index < (options.joined ?? 0) ? etcd.map((one) => one.endpoint) : undefined;
      return host.start({ fabric, settings, ...certificates, ...(endpoints && { endpoints }) });
    }),
  );
  return new Cluster({ hosts, etcd, fabric }, made.move());
}

/** Hosts on a network, and their etcd. Nothing of them is left when it is disposed of. */
export class Cluster implements AsyncDisposable {
  readonly hosts: readonly ClusterHost[];
  /** The members of etcd; to be stopped, stalled and started again one by one. */
  readonly etcd: readonly Etcd[];
  readonly fabric: Fabric;
  readonly #made: AsyncDisposableStack;

  constructor(parts: Pick<Cluster, 'etcd' | 'fabric' | 'hosts'>, made: AsyncDisposableStack) {
    this.hosts = parts.hosts;
    this.etcd = parts.etcd;
    this.fabric = parts.fabric;
    this.#made = made;
  }

  /** All containers that were started by `ClusterHost.run`. */
  get containers(): readonly Peer[] {
    return this.hosts.flatMap(({ containers }) => containers);
  }

  /** Creates a network of this name on every host. */
  async network(name: string, spec: NetworkSpec = {}): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.network(name, spec)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#made[Symbol.asyncDispose]();
  }
}

function datastoreSettings(addresses: readonly string[]): Readonly<Record<string, string>> {
  return {
    ETCD_ENDPOINTS: addresses.map((address) => `https://${address}:2379`).join(','),
    ETCD_CA_CERT_FILE: certificatePaths.ca,
    ETCD_CERT_FILE: certificatePaths.cert,
    ETCD_KEY_FILE: certificatePaths.key,
  };
}

interface Certificates {
  readonly server: CertificateFiles;
  readonly admin: CertificateFiles;
  /** Of each node; none: all use that of the administrator. */
  readonly clients: readonly CertificateFiles[];
  readonly authorityKey: string;
}

async function issueCertificates(
  folder: string,
  addresses: readonly string[],
  nodes: readonly string[] = [],
): Promise<Certificates> {
  const authority = await makeAuthority(folder, 'ca');
  const [server, admin, ...clients] = await Promise.all([
    authority.issue('etcd', addresses),
    authority.issue(adminUser),
    ...nodes.map((node) => authority.issue(etcdUserOf(node))),
  ]);
  return { server, admin, clients, authorityKey: authority.key };
}

/** Returns the folder of furnish-roles.ts in one file, which is loaded in half the time of its sources. */
function builtFurnishRoles(): Promise<string> {
  const source = 'test/lab/cluster/furnish-roles.ts';
  return built('furnish-roles', [source], (folder) => [
    `${checkout}/node_modules/.bin/esbuild`,
    `${checkout}/${source}`,
    '--bundle',
    '--platform=node',
    '--format=esm',
    '--packages=external',
    '--log-level=warning',
    `--outfile=${folder}/main.js`,
  ]);
}

/** Waits for all, so that whatever was started is known, and throws the first error. */
async function allSettled<const Work extends readonly unknown[]>(work: Work) {
  await Promise.allSettled(work);
  return Promise.all(work);
}
