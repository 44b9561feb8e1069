import { builtProgram } from '../built.ts';
import { makeAuthority } from '../certificates.ts';
import { certificatePaths, ClusterHost } from './cluster-host.ts';
import type { NetworkSpec } from './container-engine.ts';
import { startEtcdCluster, type CertificateFiles, type Etcd } from '../etcd.ts';
import type { Engine } from '../engine.ts';
import { coreAddress, placesIn, startFabric, type Fabric, type Topology } from './fabric.ts';
import type { IptablesBackend } from '../machine.ts';
import type { Peer } from './peer.ts';
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
  /** Members of etcd; by default 1. They use TLS. */
  readonly etcdMembers?: 1 | 3;
  /** Whether hosts keep their disks when they are switched off; otherwise they come back as new machines. */
  readonly disks?: boolean;
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
  await builtProgram();
  const machines: (Fabric | ClusterHost)[] = [];
  made.defer(async () => {
    await Promise.all(machines.map((machine) => machine[Symbol.asyncDispose]()));
  });
  const keep = <Made extends Fabric | ClusterHost>(machine: Made): Made => {
    machines.push(machine);
    return machine;
  };
  const [certificates, fabric, hosts] = await allSettled([
    issueCertificates(folder, addresses),
    startFabric(options.topology, addresses.length).then(keep),
    allSettled(
      placesIn(options.topology).map((place, index) =>
        ClusterHost.boot({ ...options, folder, name: `host-${index + 1}`, place }).then(keep),
      ),
    ),
  ] as const);
  const settings = {
    CALICO_IPV4POOL_CIDR: clusterPools.v4,
    CALICO_IPV6POOL_CIDR: clusterPools.v6,
    ...datastoreSettings(addresses),
    ...options.settings,
  };
  const enter = fabric.machine.enterNetwork;
  const [etcd] = await allSettled([
    startEtcdCluster(addresses, { enter, tls: certificates.server, folder }).then((members) =>
      members.map((member) => made.use(member)),
    ),
    fabric.connect(hosts),
  ] as const);
  await allSettled(
    hosts.map((host) => host.start({ fabric, settings, certificates: certificates.client })),
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
  readonly client: CertificateFiles;
}

async function issueCertificates(
  folder: string,
  addresses: readonly string[],
): Promise<Certificates> {
  const authority = await makeAuthority(folder, 'ca');
  const server = await authority.issue('etcd', addresses);
  return { server, client: await authority.issue('calico-cnm') };
}

/** Waits for all, so that whatever was started is known, and throws the first error. */
async function allSettled<const Work extends readonly unknown[]>(work: Work) {
  await Promise.allSettled(work);
  return Promise.all(work);
}
