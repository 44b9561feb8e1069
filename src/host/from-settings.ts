import type { Settings } from '../config/settings.ts';
import type { DatastoreOptions } from '../datastore/open-datastore.ts';
import type { IpFamily } from '../ip/address.ts';
import type { DefaultPool } from '../ipam/pools/default-pools.ts';

/** Derives the options of components from the settings. */

/** Returns etcd if it is configured, otherwise the file on this host. */
export function datastoreOptions(settings: Settings): DatastoreOptions {
  const { etcdEndpoints: endpoints } = settings;
  if (endpoints === undefined) return { kind: 'sqlite', file: settings.datastoreFile };
  return {
    kind: 'etcd',
    endpoints,
    ...(settings.etcdCaFile === undefined ? {} : { caFile: settings.etcdCaFile }),
    ...(settings.etcdCertFile === undefined ? {} : { certFile: settings.etcdCertFile }),
    ...(settings.etcdKeyFile === undefined ? {} : { keyFile: settings.etcdKeyFile }),
    ...(settings.etcdUsername === undefined ? {} : { username: settings.etcdUsername }),
    ...(settings.etcdPassword === undefined ? {} : { password: settings.etcdPassword }),
  };
}

/** Returns the default pools of the IP families of the host. */
export function defaultPools(
  settings: Settings,
  families: readonly IpFamily[],
): readonly DefaultPool[] {
  const pools: readonly DefaultPool[] = [
    {
      family: 4,
      cidr: settings.ipv4PoolCidr,
      blockSize: settings.ipv4PoolBlockSize,
      natOutgoing: settings.ipv4PoolNatOutgoing,
      nodeSelector: settings.ipv4PoolNodeSelector,
    },
    {
      family: 6,
      cidr: settings.ipv6PoolCidr,
      blockSize: settings.ipv6PoolBlockSize,
      natOutgoing: settings.ipv6PoolNatOutgoing,
      nodeSelector: settings.ipv6PoolNodeSelector,
    },
  ];
  return pools.filter(({ family }) => families.includes(family));
}
