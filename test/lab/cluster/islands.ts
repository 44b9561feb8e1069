import { builtProgram } from '../built.ts';
import { makeAuthority } from '../certificates.ts';
import { makeTemporaryFolder } from '../temporary-folder.ts';
import { Cluster, clusterPools } from './cluster.ts';
import { ClusterHost } from './cluster-host.ts';
import { placesIn, startFabric, type Topology } from './fabric.ts';
import { installSystemctl } from './systemctl.ts';

/** Options of hosts that are no cluster yet. */
export interface IslandOptions {
  /** Whether each host has IPv4 pools of its own, so that hosts with containers have no conflict. By default not. */
  readonly ownPools?: boolean;
}

/** Starts hosts with a datastore of their own each, on a network: what `cluster init` and `join` begin with. */
export async function startIslands(
  topology: Topology,
  { ownPools = false }: IslandOptions = {},
): Promise<Cluster> {
  await using made = new AsyncDisposableStack();
  const folder = made.use(makeTemporaryFolder('calico-islands-')).path;
  await builtProgram();
  const places = placesIn(topology);
  const booting = places.map((place, index) =>
    ClusterHost.boot({ folder, place, name: `host-${index + 1}` }).then((host) => made.use(host)),
  );
  const [fabric, hosts] = await Promise.all([
    startFabric(topology, 1).then((fabric) => made.use(fabric)),
    Promise.all(booting),
  ]);
  const authority = await makeAuthority(folder, 'unused');
  const certificates = await authority.issue('unused');
  await fabric.connect(hosts);
  await Promise.all(
    hosts.map((host, index) => {
      installSystemctl(host.host.machine);
      return host.start({
        fabric,
        settings: {
          CALICO_IPV4POOL_CIDR: ownPools ? `10.${101 + index}.0.0/16` : clusterPools.v4,
          CALICO_IPV6POOL_CIDR: clusterPools.v6,
        },
        certificates,
        admin: certificates,
        authorityKey: authority.key,
      });
    }),
  );
  return new Cluster({ hosts, etcd: [], fabric }, made.move());
}
