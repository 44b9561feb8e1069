import { openKernelSockets } from '../../dataplane/kernel-sockets.ts';
import { listAll } from '../../datastore/datastore.ts';
import { openDatastore, type DatastoreOptions } from '../../datastore/open-datastore.ts';
import { CalicoError } from '../../errors/error.ts';
import { hostInterfaces } from '../../host/node-addresses.ts';
import { hostIdentity } from '../../host/node-identity.ts';
import { nodeIps } from '../../host/node-liveness.ts';
import { rootPrefix } from '../../model/kinds/index.ts';
import type { IslandRequest } from './protocol.ts';
import { valuesOf } from './stored-items.ts';

/**
 * Returns what this host has in its own datastore, and its address for other hosts. Throws `cluster/no-address`,
 * `datastore/…`.
 */
export async function readIsland(
  options: DatastoreOptions,
  { node, signal }: { readonly node: string; readonly signal: AbortSignal },
): Promise<IslandRequest & { readonly address: string }> {
  const datastore = await openDatastore(options);
  try {
    const { items } = await listAll(datastore, rootPrefix, signal);
    const own = valuesOf(items, 'Node').get(node);
    const [address] = own === undefined ? [] : nodeIps(own);
    if (address === undefined) throw new CalicoError('cluster/no-address', { node });
    return {
      node,
      host: identity(),
      time: new Date().toISOString(),
      items: items.map(({ key, value }) => ({ key, value })),
      address,
    };
  } finally {
    await datastore.close();
  }
}

function identity(): IslandRequest['host'] {
  const sockets = openKernelSockets();
  try {
    const { bootId, networkNamespace, machineId, macs } = hostIdentity(
      hostInterfaces(sockets.rtnetlink),
    );
    return { bootId, networkNamespace, machineId, macs };
  } finally {
    sockets.close();
  }
}
