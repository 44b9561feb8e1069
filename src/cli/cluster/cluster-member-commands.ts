import type { Command } from 'commander';
import { memberAccess } from '../../cluster/admin-access.ts';
import { clusterPaths, readClusterFile, type ClusterPaths } from '../../cluster/cluster-file.ts';
import {
  clusterState,
  type ClusterFacts,
  type ClusterState,
} from '../../cluster/cluster-status.ts';
import { interruption, sentenceOf } from '../../cluster/interruption.ts';
import { findLock } from '../../cluster/moving/move-lock.ts';
import { lockedError } from '../../cache/lock.ts';
import type { EtcdAdmin } from '../../cluster/etcd/admin.ts';
import { addressIn } from '../../cluster/etcd/configuration.ts';
import {
  liveNodes,
  observeMembers,
  type ObservedMember,
} from '../../cluster/etcd/observed-members.ts';
import type { OpenedEtcd } from '../../cluster/etcd-access.ts';
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
import { leave } from './cluster-leave.ts';
import { asOnlyCommand } from './only-command.ts';
import { hasMember, longestMs, openCluster, until } from './open-cluster.ts';

/** `cluster status`, `leave` and `remove`. */

export function addMemberCommands(cluster: Command, context: CliContext): void {
  cluster
    .command('status')
    .description('show members, quorum and certificates of the cluster, and what to do')
    .action(() => showStatus(context));
  cluster
    .command('leave')
    .description('take this host out of its cluster; its Calico networks must be removed before')
    .option(
      '--force',
      'keep them and leave without the cluster, when its members are lost for good or have removed this host',
    )
    .action(({ force = false }: { readonly force?: boolean }) =>
      asOnlyCommand(context, 'cluster leave', () => leave(context, force)),
    );
  cluster
    .command('remove <host>')
    .description('take a host out of the cluster that is lost for good')
    .action((host: string) =>
      asOnlyCommand(context, 'cluster remove', () => remove(context, host)),
    );
}

async function showStatus(context: CliContext): Promise<void> {
  const settings = context.settings();
  const paths = clusterPaths(settings);
  const file = readClusterFile(paths);
  const found = file && interruption(settings, file);
  const { runningCommand } = await import('../../cluster/command-lock.ts');
  const running = found && runningCommand(settings.controlSocket);
  if (found !== undefined && file?.state !== 'joined') {
    if (running !== undefined) throw new CalicoError('cluster/command-runs', { command: running });
    throw new CalicoError('cluster/unfinished', { ...found });
  }
  await using opened = await openCluster(paths);
  const { unfinished = [], ...known } = await factsOf(opened, paths);
  const own =
    found === undefined || running !== undefined
      ? []
      : [`Finish calico-cnm ${found.command} (${found.reached}): ${found.remedy}.`];
  const facts = { ...known, unfinished: [...own, ...unfinished] };
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
    const lock = await findLock(opened.datastore, signal);
    const { node = '', step } = readClusterFile(paths) ?? {};
    const isLeaving = step === 'announced';
    const isHost = records.hosts.some(
      (host) => host.node === node && host.record.wanted !== 'gone',
    );
    const errors = [
      ...(isHost || isLeaving ? [] : [new CalicoError('cluster/removed', { node })]),
      ...(lock?.mark === undefined ? [] : [lockedError(opened.datastore.endpoint, lock.mark)]),
    ];
    const unfinished = errors.map(({ message }) => sentenceOf(message));
    return { uid, records, members, live, certificates, unfinished };
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
    const { hosts: all } = await readClusterRecords(datastore, signal);
    const hosts = all.map((one) => `${one.node} (${one.record.address})`).join(', ');
    throw new CalicoError('cluster/no-such-host', { host, hosts });
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
