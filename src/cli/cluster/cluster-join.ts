import { clusterPaths } from '../../cluster/cluster-file.ts';
import { ensureInstalled } from '../../cluster/etcd/package.ts';
import { hasSystemd, Systemd } from '../../cluster/etcd/units.ts';
import { conflictLines } from '../../cluster/joining/conflict-lines.ts';
import { parseServer } from '../../cluster/joining/connection.ts';
import { joinCluster } from '../../cluster/joining/join.ts';
import { readIsland } from '../../cluster/joining/this-host.ts';
import { findLock } from '../../cluster/moving/move-lock.ts';
import { requestMove } from '../../cluster/moving/request.ts';
import { checkMemberHost } from '../../cluster/preflight.ts';
import { parseToken } from '../../cluster/tokens.ts';
import { openDatastore, type DatastoreOptions } from '../../datastore/open-datastore.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import { nodeName } from '../../host/node-name.ts';
import type { Settings } from '../../config/settings.ts';
import type { CliContext } from '../context.ts';
import { fetchStatus } from '../control-client.ts';

/** Reading all data of a host takes time. */
const joinMs = 120_000;

/** Joins a cluster. Conflicts are written to stderr, before the error that counts them. */
export async function join(
  context: CliContext,
  request: { readonly member: string; readonly text: string; readonly isClientOnly: boolean },
): Promise<void> {
  const { progress } = context;
  const settings = context.settings();
  const node = nodeName(settings);
  const server = parseServer(request.member);
  const token = parseToken(request.text);
  if (settings.etcdEndpoints !== undefined) throw new CalicoError('cluster/own-etcd', {});
  // The daemon moves the data.
  await fetchStatus(settings.controlSocket);
  const signal = AbortSignal.timeout(joinMs);
  const own: DatastoreOptions = { kind: 'sqlite', file: settings.datastoreFile };
  let address = '';
  const outcome = await joinCluster(
    { node, server, token, isClientOnly: request.isClientOnly },
    {
      paths: clusterPaths(settings),
      island: async () => {
        const island = await readIsland(own, { node, signal });
        address = island.address;
        return island;
      },
      isMoved: () => isMoved(own, signal),
      prepare: ({ hosts, members }) =>
        request.isClientOnly || hosts > members
          ? Promise.resolve()
          : prepareMember(settings, { address, progress }),
      move: async (to) => {
        await requestMove(settings.controlSocket, { to, target: 'shared' }, progress);
      },
      progress,
    },
  );
  if (outcome.kind !== 'conflicts') {
    const already = outcome.kind === 'joined' ? 'has joined' : 'joined before';
    context.out(`this host (node ${node}) ${already}\n`);
    return;
  }
  for (const line of conflictLines(outcome)) progress(line);
  throw new CalicoError('cluster/conflicts', { count: outcome.conflicts.length });
}

/**
 * Prepares a host that becomes a member as soon as it has joined. One that can be no member of etcd joins as a client;
 * what its user can resolve is an error of `checkMemberHost`.
 */
async function prepareMember(
  settings: Settings,
  { address, progress }: { readonly address: string; readonly progress: (line: string) => void },
): Promise<void> {
  const isManagedPlugin = settings.managedSocket !== undefined;
  const why = await whyNotInstalled(isManagedPlugin, progress);
  if (why === undefined) {
    const paths = clusterPaths(settings);
    const writtenFiles = [process.argv[1] ?? '', settings.datastoreFile];
    const host = { address, paths, units: new Systemd(), isManagedPlugin, writtenFiles };
    return checkMemberHost({ ...host, now: new Date() });
  }
  progress(`this host joins as a client, because it cannot run a member of etcd: ${why}`);
}

async function whyNotInstalled(
  isManagedPlugin: boolean,
  progress: (line: string) => void,
): Promise<string | undefined> {
  if (isManagedPlugin) return 'the managed plugin cannot install etcd on the host';
  if (!hasSystemd()) return 'it has no systemd';
  try {
    await ensureInstalled(new Systemd(), progress);
    return undefined;
  } catch (error) {
    if (isCalicoError(error)) return error.message;
    throw error;
  }
}

async function isMoved(own: DatastoreOptions, signal: AbortSignal): Promise<boolean> {
  const datastore = await openDatastore(own);
  try {
    return (await findLock(datastore, signal))?.mark?.state === 'moved';
  } finally {
    await datastore.close();
  }
}
