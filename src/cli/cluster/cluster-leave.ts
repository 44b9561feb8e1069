import { existsSync } from 'node:fs';
import { memberAccess } from '../../cluster/admin-access.ts';
import {
  clusterPaths,
  commandOf,
  readClusterFile,
  removeClusterFiles,
  requireJoined,
  writeClusterFile,
  type ClusterFile,
  type ClusterPaths,
} from '../../cluster/cluster-file.ts';
import { addressIn } from '../../cluster/etcd/configuration.ts';
import { removeMember } from '../../cluster/etcd/local-member.ts';
import { hasSystemd } from '../../cluster/etcd/units.ts';
import { unitsOf } from '../../cluster/etcd/units-by-hand.ts';
import { hasAdminCredential } from '../../cluster/etcd-access.ts';
import { askMembers } from '../../cluster/joining/member-files.ts';
import { emptyResponse, paths as requests } from '../../cluster/joining/protocol.ts';
import { putAside } from '../../cluster/leaving/put-in-place.ts';
import { requestLeave, type LeaveResult } from '../../cluster/leaving/request.ts';
import { fileMark } from '../../cluster/moving/file-mark.ts';
import { requestMove } from '../../cluster/moving/request.ts';
import { markGone, readClusterRecords, type ClusterHost } from '../../cluster/records.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import type { CliContext } from '../context.ts';
import { hasMember, longestMs, openCluster, openWith, until } from './open-cluster.ts';

/** `cluster leave`: with the cluster, or by force without it. */
export async function leave(context: CliContext, isForced: boolean): Promise<void> {
  const paths = clusterPaths(context.settings());
  const file = readClusterFile(paths);
  if (file === undefined) throw new CalicoError('cluster/none', {});
  switch (file.state) {
    case 'leaving':
      return file.step === 'alone'
        ? leaveAlone(context, paths, file)
        : endCluster(context, paths, file);
    case 'initializing':
    case 'joining':
      if (isForced && isMoved(context)) return leaveByForce(context, paths, file);
      return giveUp(context, paths, { ...file, command: commandOf[file.state] });
    case 'joined':
      return isForced ? leaveByForce(context, paths, file) : leaveCluster(context, paths, file);
  }
}

async function leaveCluster(
  context: CliContext,
  paths: ClusterPaths,
  { node, step, endpoints }: ClusterFile,
): Promise<void> {
  const hasAnnounced = step === 'announced';
  try {
    const hosts = await hostsOf(paths);
    if (hosts.length > 0 && hosts.every((host) => host.node === node))
      return await dissolve(context, paths);
    if (!hasAnnounced && hosts.every((host) => host.node !== node)) {
      throw new CalicoError('cluster/removed', { node });
    }
    await requireNoNetworks(context, node);
    writeClusterFile(paths, { ...requireJoined(paths), step: 'announced' });
    await announceLeave(paths, node);
    await using opened = await openCluster(paths);
    await until(context, async () =>
      (await hasMember(opened, node)) ? 'leaving the members of etcd' : undefined,
    );
  } catch (error) {
    if (isCalicoError(error, 'datastore/unavailable')) {
      const hosts = endpoints.map(addressIn).join(', ');
      const isMember = hasAdminCredential(paths);
      throw new CalicoError('cluster/lost', { hosts, isMember }, { cause: error });
    }
    // A host whose daemon does not run is forgotten as soon as it has announced that it leaves.
    if (!isUnknownHost(error) || requireJoined(paths).step !== 'announced') throw error;
  }
  await endCluster(context, paths, markLeaving(paths, 'left'));
}

/** Reports whether the cluster does not know this host any more. */
function isUnknownHost(error: unknown): boolean {
  if (isCalicoError(error, 'datastore/refused')) return true;
  return isCalicoError(error, 'cluster/rejected') && error.detail.code === 'cluster/not-a-host';
}

/** Reports whether the data of this host is in the cluster. */
function isMoved(context: CliContext): boolean {
  return fileMark(context.settings().datastoreFile)?.state === 'moved';
}

/** Removes what an interrupted `init` or `join` has left, if the data of this host is where it was. */
async function giveUp(
  context: CliContext,
  paths: ClusterPaths,
  { node, endpoints, command }: ClusterFile & { readonly command: string },
): Promise<void> {
  if (fileMark(context.settings().datastoreFile) !== undefined) {
    throw new CalicoError('cluster/data-moved', { command });
  }
  await removeAll(context, paths);
  context.out(`cluster ${command} is given up; this host has its own datastore\n`);
  // A member has admitted it.
  if (command === 'join' && endpoints.length > 0) {
    context.out(`run on a member: calico-cnm cluster remove ${node}\n`);
  }
}

/** Leaves a cluster that does not respond, or no longer has this host. Throws `cluster/responds` for others. */
async function leaveByForce(
  context: CliContext,
  paths: ClusterPaths,
  file: ClusterFile,
): Promise<void> {
  context.progress('asking the members of the cluster');
  if (await isHost(paths, file)) {
    const { state } = file;
    const command = `calico-cnm cluster ${state === 'joined' ? 'leave' : 'join'}`;
    throw new CalicoError('cluster/responds', { node: file.node, command });
  }
  await leaveAlone(context, paths, file);
}

/** Reports whether the cluster responds and has this host, so that it can leave in the usual way. */
async function isHost(paths: ClusterPaths, file: ClusterFile): Promise<boolean> {
  try {
    await using opened = await openWith(paths, file);
    const { hosts } = await readClusterRecords(opened.datastore, AbortSignal.timeout(longestMs));
    return hosts.some(({ node, record }) => node === file.node && record.wanted !== 'gone');
  } catch (error) {
    if (isCalicoError(error, 'datastore/unavailable', 'datastore/refused')) return false;
    throw error;
  }
}

/** Goes on with what this host knows; repeatable. */
async function leaveAlone(
  context: CliContext,
  paths: ClusterPaths,
  { node, step }: ClusterFile,
): Promise<void> {
  const { controlSocket, datastoreFile } = context.settings();
  const isThere = step === 'alone' && existsSync(datastoreFile);
  const result: LeaveResult = isThere
    ? { kind: 'left before' }
    : await requestLeave(controlSocket, context.progress);
  if (result.kind === 'nothing known') {
    await endCluster(context, paths, markLeaving(paths, 'left'));
    context.out('this host knew nothing of its cluster: recreate its Calico networks\n');
    return;
  }
  await removeAll(context, paths);
  for (const line of departure({ node, datastoreFile }, result)) context.out(`${line}\n`);
}

/** Returns what a host has kept that left its cluster by force, and what it has not. */
export function departure(
  { node, datastoreFile }: { readonly node: string; readonly datastoreFile: string },
  result: Exclude<LeaveResult, { kind: 'nothing known' }>,
): readonly string[] {
  const left = `node ${node} has left its cluster and`;
  const rest = `if members of the cluster run, on one of them: calico-cnm cluster remove ${node}`;
  if (result.kind === 'left before') return [`${left} uses ${datastoreFile}`, rest];
  const { networks, containers, otherNodes, otherContainers, savedAt } = result;
  const kept = `${counted(networks, 'network')} and ${counted(containers, 'endpoint')}`;
  const others =
    otherNodes.length === 0
      ? []
      : [
          `not brought along: ${counted(otherNodes.length, 'other node')} (${otherNodes.join(', ')}) and ${counted(otherContainers, 'endpoint')} there, which containers of this host do not reach any more`,
        ];
  const late =
    savedAt === undefined
      ? []
      : [`the data is that of ${savedAt}, when this host last read the cluster`];
  return [`${left} keeps ${kept} in ${datastoreFile}`, ...others, ...late, rest];
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

async function hostsOf(paths: ClusterPaths): Promise<readonly ClusterHost[]> {
  await using opened = await openCluster(paths);
  const { hosts } = await readClusterRecords(opened.datastore, AbortSignal.timeout(longestMs));
  return hosts.filter(({ record }) => record.wanted !== 'gone');
}

async function requireNoNetworks(context: CliContext, node: string): Promise<void> {
  const networks = await context.withStore(({ look }) =>
    look((view) => [...view.list('DockerNetwork', `${node}/`).values()]),
  );
  const names = networks.flatMap(({ value }) =>
    value.node === node ? [value.name ?? value.id] : [],
  );
  if (names.length > 0) throw new CalicoError('cluster/has-networks', { names: names.join(', ') });
}

/** A client has no right to write its record; a member does it. */
async function announceLeave(paths: ClusterPaths, node: string): Promise<void> {
  if (!hasAdminCredential(paths)) {
    await askMembers({ paths }, { path: requests.leave, body: { node }, response: emptyResponse });
    return;
  }
  await using opened = await openCluster(paths);
  await markGone(opened.datastore, node, AbortSignal.timeout(longestMs));
}

/** The last host of a cluster takes its data back into a file. */
async function dissolve(context: CliContext, paths: ClusterPaths): Promise<void> {
  const { datastoreFile, controlSocket } = context.settings();
  const { datastore: admin } = memberAccess(paths);
  await requestMove(
    controlSocket,
    {
      // A node may not lock the data of its cluster.
      from: { ...admin, endpoints: [...admin.endpoints] },
      to: { kind: 'sqlite', file: datastoreFile },
      target: 'empty',
    },
    context.progress,
  );
  // From now on the file is the datastore, also for a daemon that starts, whatever is left of the cluster.
  await endCluster(context, paths, markLeaving(paths));
}

/** From now on `cluster leave` goes on with `endCluster`. */
function markLeaving(paths: ClusterPaths, step?: 'left' | 'put aside'): ClusterFile {
  const { step: _, ...file } = readClusterFile(paths) ?? requireJoined(paths);
  const leaving = { ...file, state: 'leaving', ...(step === undefined ? {} : { step }) } as const;
  writeClusterFile(paths, leaving);
  return leaving;
}

/** Removes what is left of the cluster on a host that has left it, or dissolved it; repeatable. */
async function endCluster(
  context: CliContext,
  paths: ClusterPaths,
  { node, step }: ClusterFile,
): Promise<void> {
  const { datastoreFile } = context.settings();
  if (step === 'left') {
    putAside(datastoreFile);
    markLeaving(paths, 'put aside');
  }
  await removeAll(context, paths);
  context.out(
    step === undefined
      ? `the cluster is dissolved; this host uses ${datastoreFile} again\n`
      : `node ${node} has left the cluster; its daemon restarts with a datastore of its own\n`,
  );
}

/** Removes the member of this host and its cluster files; repeatable. */
async function removeAll(context: CliContext, paths: ClusterPaths): Promise<void> {
  const isManagedPlugin = context.settings().managedSocket !== undefined;
  const units = unitsOf({ isManagedPlugin, paths }, context.progress);
  if (isManagedPlugin || hasSystemd()) await removeMember({ paths, units });
  removeClusterFiles(paths);
}
