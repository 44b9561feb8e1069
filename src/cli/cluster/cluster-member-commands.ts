import { existsSync, renameSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { memberAccess } from '../../cluster/admin-access.ts';
import {
  clusterPaths,
  commandOf,
  removeClusterFiles,
  requireJoined,
  readClusterFile,
  writeClusterFile,
  type ClusterFile,
  type ClusterPaths,
} from '../../cluster/cluster-file.ts';
import {
  clusterState,
  type ClusterFacts,
  type ClusterState,
} from '../../cluster/cluster-status.ts';
import { nodeAccess } from '../../cluster/datastore-access.ts';
import type { EtcdAdmin } from '../../cluster/etcd/admin.ts';
import { addressIn } from '../../cluster/etcd/configuration.ts';
import {
  liveNodes,
  observeMembers,
  type ObservedMember,
} from '../../cluster/etcd/observed-members.ts';
import { removeMember } from '../../cluster/etcd/local-member.ts';
import { hasSystemd } from '../../cluster/etcd/units.ts';
import { unitsOf } from '../../cluster/etcd/units-by-hand.ts';
import {
  adminOptions,
  hasAdminCredential,
  openEtcdPatiently,
  type OpenedEtcd,
} from '../../cluster/etcd-access.ts';
import { askMembers } from '../../cluster/joining/member-files.ts';
import { emptyResponse, paths as requests } from '../../cluster/joining/protocol.ts';
import { fileMark } from '../../cluster/moving/file-mark.ts';
import { requestMove } from '../../cluster/moving/request.ts';
import { daysLeft, readCertificate } from '../../cluster/pki/certificate.ts';
import { readIfPresent } from '../../async/replace-file.ts';
import {
  readClusterRecords,
  readHost,
  markGone,
  type ClusterHost,
  type ClusterRecords,
} from '../../cluster/records.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import type { CliContext } from '../context.ts';
import { formatTable } from '../table.ts';

/** `cluster status`, `leave` and `remove`. */

/** Timeout for the keeper to take a host out, and between two looks, in milliseconds. */
const [longestMs, lookMs] = [120_000, 300];

export function addMemberCommands(cluster: Command, context: CliContext): void {
  cluster
    .command('status')
    .description('show members, quorum and certificates of the cluster, and what to do')
    .action(() => showStatus(context));
  cluster
    .command('leave')
    .description('take this host out of its cluster; its Calico networks must be removed before')
    .action(() => leave(context));
  cluster
    .command('remove <host>')
    .description('take a host out of the cluster that is lost for good')
    .action((host: string) => remove(context, host));
}

/** Opens the cluster of this host, with the best credential that it has. Throws `cluster/none`, `cluster/interrupted`. */
async function openCluster(paths: ClusterPaths): Promise<OpenedEtcd> {
  const file = requireJoined(paths);
  return openEtcdPatiently(
    hasAdminCredential(paths) ? adminOptions(paths, file.endpoints) : nodeAccess(paths, file),
  );
}

async function showStatus(context: CliContext): Promise<void> {
  const paths = clusterPaths(context.settings());
  await using opened = await openCluster(paths);
  const facts = await factsOf(opened, paths);
  const state = clusterState(facts);
  context.out(statusText(facts.uid, state));
  if (!state.isHealthy) context.setStatus(1);
}

async function factsOf(opened: OpenedEtcd, paths: ClusterPaths): Promise<ClusterFacts> {
  const signal = AbortSignal.timeout(longestMs);
  const uid = readClusterFile(paths)?.uid ?? '';
  const certificates = certificatesOf(paths, new Date());
  try {
    const { records, members } = await observeMembers(opened, signal);
    const live = await liveNodes(opened.datastore, records.hosts, signal);
    return { uid, records, members, live, certificates };
  } catch (error) {
    if (!isCalicoError(error, 'datastore/unavailable')) throw error;
    // Without a quorum a member still tells who the members are.
    const members = await membersAlone(opened.admin).catch((cause: unknown) => {
      if (!isCalicoError(cause, 'datastore/unavailable')) throw cause;
      const hosts = (readClusterFile(paths)?.endpoints ?? []).map(addressIn).join(', ');
      throw new CalicoError('cluster/members-unreachable', { hosts }, { cause });
    });
    return { uid, records: recordsOf(members), members, live: new Set(), certificates };
  }
}

async function membersAlone(admin: EtcdAdmin): Promise<readonly ObservedMember[]> {
  const members = await admin.members();
  return Promise.all(
    members.map(async (member) => ({
      member,
      status: await admin.status(member),
      host: hostOfMember(member),
    })),
  );
}

function hostOfMember({ id, name, peerUrls }: ObservedMember['member']): ClusterHost {
  const address = new URL(peerUrls[0] ?? 'https://unknown').hostname;
  const record = { address, joined: '', wanted: 'member' as const, attempt: 0 };
  return { node: name || id, record, report: undefined };
}

function recordsOf(members: readonly ObservedMember[]): ClusterRecords {
  return { settings: { members: 1 }, hosts: members.flatMap(({ host }) => host ?? []) };
}

function certificatesOf(paths: ClusterPaths, now: Date) {
  const { ca, nodeCert, adminCert, serverCert, peerCert } = paths;
  return [ca, nodeCert, adminCert, serverCert, peerCert].flatMap((file) => {
    const pem = readIfPresent(file);
    const name = file.slice(paths.folder.length + 1);
    return pem === undefined ? [] : [{ name, days: daysLeft(readCertificate(pem), now) }];
  });
}

/** Returns the text of `cluster status`. */
export function statusText(
  uid: string,
  { isHealthy, rows, summary, advice }: ClusterState,
): string {
  const table = formatTable(
    ['host', 'address', 'part', 'etcd', 'database', 'state'],
    rows.map(({ host, address, part, etcd, database, state }) => [
      host,
      address,
      part,
      etcd,
      database,
      state,
    ]),
  );
  const lines = [
    ...summary,
    ...(advice.length === 0 ? [] : ['', ...advice.map((one) => `- ${one}`)]),
  ];
  return `cluster ${uid}: ${isHealthy ? 'healthy' : 'degraded'}\n\n${table}\n${lines.join('\n')}\n`;
}

async function remove(context: CliContext, host: string): Promise<void> {
  const paths = clusterPaths(context.settings());
  const { file } = memberAccess(paths);
  if (host === file.node) {
    const why = 'it is this host; run calico-cnm cluster leave';
    throw new CalicoError('cli/bad-argument', { what: host, why });
  }
  await using opened = await openCluster(paths);
  const { datastore } = opened;
  const signal = AbortSignal.timeout(longestMs);
  const record = await readHost(datastore, host, signal);
  if (record === undefined) {
    throw new CalicoError('datastore/not-found', { kind: 'host of the cluster', name: host });
  }
  if ((await liveNodes(datastore, [{ node: host }], signal)).has(host)) {
    throw new CalicoError('cluster/host-runs', { host });
  }
  await markGone(datastore, host, signal);
  await until(context, async () => {
    const present = await readHost(datastore, host, signal);
    if (present === undefined) return undefined;
    const isMember = await hasMember(opened, host);
    return isMember ? `removing ${host} from the members of etcd` : `deleting node ${host}`;
  });
  context.out(`host ${host} removed\n`);
}

/**
 * Waits until nothing is left to be done; reports what is, whenever that changes. Members restart meanwhile, to end the
 * connections of a removed host, and one that is lost does not even refuse a connection. Throws `cluster/takes-long`.
 */
async function until(
  { progress }: Pick<CliContext, 'progress'>,
  left: () => Promise<string | undefined>,
): Promise<void> {
  const end = Date.now() + longestMs;
  let last: string | undefined;
  for (;;) {
    const now = await left().catch((error: unknown) => {
      if (isCalicoError(error, 'datastore/unavailable')) return 'waiting for a member of etcd';
      throw error;
    });
    if (now === undefined) return;
    if (now !== last) progress(now);
    last = now;
    if (Date.now() > end) throw new CalicoError('cluster/takes-long', { what: now });
    await sleep(lookMs);
  }
}

async function hasMember({ admin, datastore }: OpenedEtcd, node: string): Promise<boolean> {
  const { members } = await observeMembers({ admin, datastore }, AbortSignal.timeout(longestMs));
  return members.some(({ host }) => host?.node === node);
}

async function leave(context: CliContext): Promise<void> {
  const settings = context.settings();
  const paths = clusterPaths(settings);
  const file = readClusterFile(paths);
  if (file?.state === 'leaving') return endCluster(context, paths, file);
  if (file?.state === 'initializing' || file?.state === 'joining') {
    return giveUp(context, paths, { ...file, command: commandOf[file.state] });
  }
  const { node } = requireJoined(paths);
  try {
    const hosts = await hostsOf(paths);
    if (hosts.every((host) => host.node === node)) return await dissolve(context, paths);
    await requireNoNetworks(context, node);
    writeClusterFile(paths, { ...requireJoined(paths), step: 'announced' });
    await announceLeave(paths, node);
    await using opened = await openCluster(paths);
    await until(context, async () =>
      (await hasMember(opened, node)) ? 'leaving the members of etcd' : undefined,
    );
  } catch (error) {
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
    if (existsSync(datastoreFile)) renameSync(datastoreFile, `${datastoreFile}.before-cluster`);
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
