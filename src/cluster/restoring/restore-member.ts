import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, renameSync, rmSync } from 'node:fs';
import type { Datastore } from '../../datastore/datastore.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import type { MoveMark } from '../../model/kinds/cluster-information.ts';
import type { ClusterPaths } from '../cluster-file.ts';
import {
  clientPort,
  dataFolder,
  etcdProgram,
  etcdUnit,
  etcdUrl,
  peerPort,
} from '../etcd/configuration.ts';
import { storeOwnId } from '../etcd/host-member.ts';
import { startMember, waitUntilReady } from '../etcd/local-member.ts';
import { runTool, type UnitManager } from '../etcd/units.ts';
import { adminOptions, openEtcd } from '../etcd-access.ts';
import { findLock, putLock } from '../moving/move-lock.ts';
import { readClusterRecords, updateHost } from '../records.ts';
import { freePort } from '../etcd/free-port.ts';

/** How long etcd may take to read a restored database, and to restore it, in milliseconds. */
const [readyMs, restoreMs] = [60_000, 300_000];
/** So many folders with data of before are looked at. */
const maxKept = 20;

export interface RestoreOptions {
  /** A snapshot of etcd, or the database of a member, which is stopped then. */
  readonly file: string;
  readonly isOwnData?: boolean;
  readonly node: string;
  /** The address of this host for other hosts. */
  readonly address: string;
  readonly paths: ClusterPaths;
  readonly units: UnitManager;
  readonly now: () => Date;
  readonly progress: (line: string) => void;
  /** Called before the first change. */
  readonly begins?: () => void;
}

/**
 * Makes this host the only member of its cluster, with the data of a backup, by etcd's own tools. Before any host sees
 * the data it is locked, so that no address is allocated before the hosts have written what is newer. Returns the mark
 * of that lock; `undefined` if the backup has no Calico data. Other members must not run any more; those that do give
 * up their data by themselves. Repeatable at every point. Throws `cluster/tool-failed`, `cluster/etcd-not-ready`.
 */
export async function restoreMember(
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<MoveMark | undefined> {
  const { file, isOwnData = false, node, address, paths, units, progress } = options;
  if (isOwnData) {
    options.begins?.();
    // It writes all that it has received.
    await units.remove(etcdUnit);
  }
  const id = randomUUID();
  const peerUrl = etcdUrl(address, peerPort);
  const restored = `${paths.etcd}/restored`;
  rmSync(restored, { recursive: true, force: true });
  progress(`restoring ${file}`);
  // Another token makes another cluster: hosts recognize it, and members of before cannot speak with it.
  const argv = [
    'snapshot',
    'restore',
    file,
    `--data-dir=${restored}`,
    `--name=${node}`,
    `--initial-cluster=${node}=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster-token=${id}`,
    // Only a snapshot has a checksum.
    ...(isOwnData ? ['--skip-hash-check=true'] : []),
  ];
  const tool = { timeoutMs: restoreMs, env: { ETCDCTL_API: '3' } };
  await runTool('etcdctl', argv, tool).catch((error: unknown) => {
    const isDamaged =
      isCalicoError(error, 'cluster/tool-failed') && /sha256/.test(error.detail.why);
    if (!isDamaged) throw error;
    const why = 'it is damaged: its checksum is wrong';
    throw new CalicoError('cluster/not-a-backup', { file, why }, { cause: error });
  });
  const mark = await prepareData(options, { restored, id }, signal);
  options.begins?.();
  await units.remove(etcdUnit);
  const data = dataFolder(paths);
  if (existsSync(data)) renameSync(data, unusedName(`${data}.before-restore`));
  renameSync(restored, data);
  const members = [{ name: node, peerUrl }];
  progress('starting etcd with the restored data');
  const configuration = { name: node, address, cluster: id, members, state: 'new' as const };
  await startMember(configuration, { paths, units });
  const url = etcdUrl(address, clientPort);
  await using opened = await openEtcd(adminOptions(paths, [url]));
  await waitUntilReady(opened.admin, url, readyMs);
  return mark;
}

/** Returns the database of the member of this host; `undefined` without one. */
export function ownDatabase(paths: ClusterPaths): string | undefined {
  const before = `${dataFolder(paths)}.before-restore`;
  // An interrupted restore has put the data of before aside, the last one under the highest number.
  const kept = [
    ...Array.from({ length: maxKept }, (_, index) => `${before}-${maxKept - index}`),
    before,
  ];
  const files = [dataFolder(paths), ...kept].map((folder) => `${folder}/member/snap/db`);
  return files.find((file) => existsSync(file));
}

/** A command that was interrupted may have kept the data of before already. */
function unusedName(name: string): string {
  let unused = name;
  for (let number = 2; existsSync(unused); number++) unused = `${name}-${number}`;
  return unused;
}

/** Locks the restored data and makes its records those of a cluster of this member, by an etcd that nobody reaches. */
async function prepareData(
  options: RestoreOptions,
  { restored, id }: { readonly restored: string; readonly id: string },
  signal: AbortSignal,
): Promise<MoveMark | undefined> {
  const { node, address, file, paths } = options;
  const [client, peer] = [await freePort(), await freePort()].map((port) =>
    etcdUrl('127.0.0.1', port),
  );
  if (client === undefined || peer === undefined) throw new Error('no free port');
  const etcd = spawn(
    'setpriv',
    [
      // It must not outlive a command that is interrupted.
      '--pdeathsig=TERM',
      '--',
      existsSync(etcdProgram) ? etcdProgram : 'etcd',
      `--name=${node}`,
      `--data-dir=${restored}`,
      '--log-level=error',
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      '--client-cert-auth',
      `--trusted-ca-file=${paths.ca}`,
      `--cert-file=${paths.serverCert}`,
      `--key-file=${paths.serverKey}`,
      `--listen-peer-urls=${peer}`,
      '--peer-client-cert-auth',
      `--peer-trusted-ca-file=${paths.ca}`,
      `--peer-cert-file=${paths.peerCert}`,
      `--peer-key-file=${paths.peerKey}`,
      `--initial-cluster=${node}=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  etcd.stderr.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-500)));
  const ended = new Promise((resolve) => etcd.once('close', resolve));
  try {
    await using opened = await openEtcd(adminOptions(paths, [client]));
    const { admin, datastore } = opened;
    await Promise.race([
      waitUntilReady(admin, client, readyMs),
      ended.then(() => {
        throw new CalicoError('cluster/tool-failed', { tool: 'etcd', why: said.trim() });
      }),
    ]);
    const [own] = await admin.members();
    if (own === undefined) throw new Error('etcd has no member');
    await writeRecords(datastore, { node, address, member: own.id, now: options.now() }, signal);
    const mark = await lock(datastore, { node, file, id, now: options.now() }, signal);
    storeOwnId(paths, own.id);
    return mark;
  } finally {
    etcd.kill('SIGTERM');
    await ended;
  }
}

/** This host is the member; the others prepare again. */
async function writeRecords(
  datastore: Datastore,
  own: {
    readonly node: string;
    readonly address: string;
    readonly member: string;
    readonly now: Date;
  },
  signal: AbortSignal,
): Promise<void> {
  const { node, address, member: id } = own;
  const member = { id, peers: [{ name: node, peerUrl: etcdUrl(address, peerPort) }] };
  const first = { address, joined: own.now.toISOString(), attempt: 0 };
  await updateHost(
    datastore,
    node,
    (host) => ({ ...first, ...host, address, wanted: 'member', member }),
    signal,
  );
  const { hosts } = await readClusterRecords(datastore, signal);
  for (const other of hosts) {
    if (other.node === node || other.record.member === undefined) continue;
    await updateHost(
      datastore,
      other.node,
      (host) => {
        if (host === undefined) return host;
        const { member: _former, ...rest } = host;
        return { ...rest, attempt: host.attempt + 1 };
      },
      signal,
    );
  }
}

async function lock(
  datastore: Datastore,
  facts: {
    readonly node: string;
    readonly file: string;
    readonly id: string;
    readonly now: Date;
  },
  signal: AbortSignal,
): Promise<MoveMark | undefined> {
  const present = await findLock(datastore, signal);
  if (present === undefined) return undefined;
  const { node, file, id, now } = facts;
  const mark: MoveMark = {
    state: 'restored',
    id,
    node,
    from: file,
    to: datastore.endpoint,
    since: now.toISOString(),
  };
  const { information, item } = present;
  await putLock(datastore, { information, revision: item.modRevision, mark, ranges: [] }, signal);
  return mark;
}
