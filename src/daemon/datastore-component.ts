import { dirname, join } from 'node:path';
import { GroupWriter } from '../cache/group-writer.ts';
import { nodeScope } from '../cache/cache-scope.ts';
import { LiveMirror } from '../cache/live-mirror.ts';
import { keepSnapshot, readSnapshot } from '../cache/snapshot.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { openDatastore } from '../datastore/open-datastore.ts';
import { indexLocalEndpoints, type LocalEndpoints } from '../driver/endpoints/local-endpoints.ts';
import { keepTagsShared } from '../driver/endpoints/shared-tags.ts';
import { datastoreOptions } from '../host/from-settings.ts';
import { LastAddresses } from '../ipam/docker/last-addresses.ts';
import { keepLastAddresses, readLastAddresses } from '../ipam/maintenance/keep-last-addresses.ts';
import { hostIdentity } from '../host/node-identity.ts';
import { hostInterfaces } from '../host/node-addresses.ts';
import type { Common } from './common.ts';
import { NodePresence } from './node-presence.ts';

/** The datastore and its copy in memory. */
export interface DatastoreComponent {
  readonly datastore: Datastore;
  readonly mirror: LiveMirror;
  readonly writer: GroupWriter;
  readonly presence: NodePresence;
  readonly local: LocalEndpoints;
  readonly last: LastAddresses;
  /** Follows it until the daemon's signal is aborted. */
  run(): Promise<unknown>;
}

export async function openDatastoreComponent(common: Common): Promise<DatastoreComponent> {
  const { settings, node, log, supervisor, keep, signal, sockets } = common;
  const datastore = await openDatastore(datastoreOptions(settings));
  const { snapshotFile: file } = settings;
  const warn = (text: string) => log.warn(text);
  // The SQLite file of one host is always available; a shared datastore may not be.
  const isRemote = settings.etcdEndpoints !== undefined;
  const mirror = new LiveMirror(
    datastore,
    async () => (isRemote ? readSnapshot(file, datastore, warn) : undefined),
    supervisor.work('mirror listeners'),
    undefined,
    nodeScope(node),
  );
  const presence = new NodePresence({
    ...common,
    nodeNameFile: settings.nodeNameFile,
    leases: datastore.leases,
    identity: () => hostIdentity(hostInterfaces(sockets.rtnetlink)),
  });
  const writer = new GroupWriter(mirror, undefined, (draft) => presence.guard(draft));
  const local = indexLocalEndpoints(mirror, node);
  const last = new LastAddresses();
  const lastFile = join(dirname(file), 'last-addresses.json');
  last.restore(await readLastAddresses(lastFile, warn));
  return {
    datastore,
    mirror,
    writer,
    presence,
    local,
    last,
    run: () =>
      Promise.all([
        keep('last addresses', (work) =>
          keepLastAddresses({ mirror, node, last, file: lastFile, work }, signal),
        ),
        keep('shared tags', (work) => keepTagsShared({ mirror, writer, local, work }, signal)),
        keep('datastore mirror', () => mirror.run(signal)),
        ...(isRemote
          ? [keep('snapshot', (work) => keepSnapshot({ mirror, file, work }, signal))]
          : []),
      ]),
  };
}
