import { dirname, join } from 'node:path';
import { GroupWriter } from '../cache/group-writer.ts';
import { nodeScope } from '../cache/cache-scope.ts';
import { LiveMirror } from '../cache/live-mirror.ts';
import { keepSnapshot, readSnapshot, snapshotCluster } from '../cache/snapshot.ts';
import { MovableDatastore } from '../datastore/movable-datastore.ts';
import { openDatastore } from '../datastore/open-datastore.ts';
import { indexLocalEndpoints, type LocalEndpoints } from '../driver/endpoints/local-endpoints.ts';
import { keepTagsShared } from '../driver/endpoints/shared-tags.ts';
import { datastoreAccess } from '../cluster/datastore-access.ts';
import { LastAddresses } from '../ipam/docker/last-addresses.ts';
import { keepLastAddresses, readLastAddresses } from '../ipam/maintenance/keep-last-addresses.ts';
import { hostIdentity } from '../host/node-identity.ts';
import { hostInterfaces } from '../host/node-addresses.ts';
import type { Common } from './common.ts';
import { NodePresence } from './node-presence.ts';
import { RestoredDatastore } from './restored-datastore.ts';

/** The datastore and its copy in memory. */
export interface DatastoreComponent {
  readonly datastore: MovableDatastore;
  readonly mirror: LiveMirror;
  readonly writer: GroupWriter;
  readonly presence: NodePresence;
  readonly restored: RestoredDatastore;
  readonly local: LocalEndpoints;
  readonly last: LastAddresses;
  /** Follows it until the daemon's signal is aborted. */
  run(): Promise<unknown>;
}

export async function openDatastoreComponent(common: Common): Promise<DatastoreComponent> {
  const { settings, node, log, supervisor, keep, signal, sockets } = common;
  const opened: { restored?: RestoredDatastore } = {};
  const datastore = new MovableDatastore(
    await openDatastore(datastoreAccess(settings, 'node')),
    async (after) => opened.restored?.takeUp(after),
  );
  const { snapshotFile: file } = settings;
  const warn = (text: string) => log.warn(text);
  // The SQLite file of one host is always available; a shared datastore may not be.
  const isRemote = () => datastore.leases !== undefined;
  const known = isRemote() ? await snapshotCluster(file) : undefined;
  if (known !== undefined) datastore.store.expectCluster?.(known);
  const mirror = new LiveMirror(
    datastore,
    async () => (isRemote() ? readSnapshot(file, datastore, warn) : undefined),
    supervisor.work('mirror listeners'),
    undefined,
    nodeScope(node),
  );
  const presence = new NodePresence({
    ...common,
    nodeNameFile: settings.nodeNameFile,
    leases: () => datastore.leases,
    identity: () => hostIdentity(hostInterfaces(sockets.rtnetlink)),
  });
  const writer = new GroupWriter(mirror, undefined, (draft) => presence.guard(draft));
  const restored = new RestoredDatastore({
    ...common,
    datastore,
    mirror,
    writer,
    readLast: () => readSnapshot(file, { cluster: undefined, endpoint: datastore.endpoint }, warn),
  });
  opened.restored = restored;
  const local = indexLocalEndpoints(mirror, node);
  const last = new LastAddresses();
  const lastFile = join(dirname(file), 'last-addresses.json');
  last.restore(await readLastAddresses(lastFile, warn));
  return {
    datastore,
    mirror,
    writer,
    presence,
    restored,
    local,
    last,
    run: () =>
      Promise.all([
        keep('last addresses', (work) =>
          keepLastAddresses({ mirror, node, last, file: lastFile, work }, signal),
        ),
        keep('shared tags', (work) => keepTagsShared({ mirror, writer, local, work }, signal)),
        keep('datastore mirror', () => mirror.run(signal)),
        keep('restored datastore', (work) => restored.run(work, signal)),
        keep('snapshot', (work) =>
          keepSnapshot({ mirror, file, work, isNeeded: isRemote }, signal),
        ),
      ]),
  };
}
