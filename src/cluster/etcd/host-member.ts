import { rmSync } from 'node:fs';
import { backoffMs, pause } from '../../async/deadline.ts';
import { readIfPresent, replaceFileSync } from '../../async/replace-file.ts';
import type { Work } from '../../async/supervise.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import { describe } from '../../errors/error.ts';
import type { ClusterPaths } from '../cluster-file.ts';
import {
  clusterKeys,
  readHost,
  updateReport,
  type HostRecord,
  type HostReport,
} from '../records.ts';
import type { Member } from './admin.ts';
import { dataFolder, etcdUnit, etcdUrl, peerPort } from './configuration.ts';
import { configuredAddress, hasMemberData, removeMember, startMember } from './local-member.ts';
import type { UnitManager } from './units.ts';

/**
 * The part of a host in the membership of etcd: it reports what it is able to, prepares when the cluster wants it as a
 * member, starts the member when it has been added, and ends it when it has been removed.
 */

/** Without an event of the datastore. */
const pollMs = 15_000;
/** After attempts that failed; the first follows at once. */
const [firstBackoffMs, longestBackoffMs] = [5000, 300_000];

export interface HostMemberDeps {
  readonly node: string;
  /** The identity of the cluster. */
  readonly cluster: string;
  /** The datastore as the user of this node. */
  readonly datastore: Datastore;
  readonly paths: ClusterPaths;
  readonly units: UnitManager;
  /** The address of this host for others; `undefined` if it is not known yet. */
  readonly address: () => string | undefined;
  /** Reports whether an interface of this host has an address. */
  readonly hasAddress: (address: string) => boolean;
  /** The version of the installed etcd; throws why this host cannot be a member. */
  readonly etcdVersion: () => Promise<string>;
  /** Brings the certificates of a member for its addresses; repeatable. */
  readonly bringFiles: () => Promise<unknown>;
  /** Removes what only a member has, such as the key of the authority; repeatable. */
  readonly removeFiles: () => Promise<void>;
  /** The members as a member knows them. */
  readonly members: () => Promise<readonly Pick<Member, 'id'>[]>;
  readonly log: { info(event: string, fields?: Readonly<Record<string, unknown>>): void };
}

/** Follows the record of this host until the signal is aborted. */
export async function followOwnRecord(
  deps: HostMemberDeps,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  let retries = backoffMs(firstBackoffMs, longestBackoffMs);
  while (!signal.aborted) {
    const wake = new AbortController();
    const changes = wakeOnChange(deps, wake, signal);
    let waitMs = pollMs;
    try {
      await followOnce(deps, signal);
      work.succeeded();
      retries = backoffMs(firstBackoffMs, longestBackoffMs);
    } catch (error) {
      if (!signal.aborted) work.failed(error);
      waitMs = retries.next().value;
    }
    await pause(waitMs, AbortSignal.any([signal, wake.signal]));
    wake.abort();
    await changes;
  }
}

/** Aborts the controller at the next change of the record, or when that is aborted elsewhere. */
async function wakeOnChange(
  { datastore, node }: HostMemberDeps,
  wake: AbortController,
  signal: AbortSignal,
): Promise<void> {
  const stop = AbortSignal.any([signal, wake.signal]);
  try {
    const { revision } = await datastore.read([clusterKeys.host(node)], stop);
    for await (const _ of datastore.watch(clusterKeys.host(node), revision, stop)) {
      wake.abort();
      return;
    }
  } catch {
    // The poll follows.
  }
}

/** Brings the host to the state that its record wants; repeatable at every point. */
export async function followOnce(deps: HostMemberDeps, signal: AbortSignal): Promise<void> {
  const { datastore, node } = deps;
  const record = await readHost(datastore, node, signal);
  if (record === undefined) return;
  const report = await reportOf(deps, record);
  if (record.member !== undefined) await runMember(deps, record, record.member);
  else if (record.wanted !== 'member') await endMember(deps);
  else if ('version' in report.etcd) {
    await prepare(deps, record, signal);
    report.preparedFor = record.attempt;
  }
  await updateReport(
    datastore,
    node,
    (present) => (JSON.stringify(present) === JSON.stringify(report) ? present : report),
    signal,
  );
}

async function reportOf(
  { address, etcdVersion }: HostMemberDeps,
  { attempt, member, wanted, address: recorded }: HostRecord,
): Promise<{ -readonly [K in keyof HostReport]: HostReport[K] }> {
  const isPrepared = wanted === 'member' && member !== undefined;
  const prepared = isPrepared ? { preparedFor: attempt } : {};
  try {
    return { address: address() ?? recorded, etcd: { version: await etcdVersion() }, ...prepared };
  } catch (error) {
    return { address: address() ?? recorded, etcd: { unavailable: describe(error) }, ...prepared };
  }
}

/** Everything is brought that takes time, so that the member can start at once when it has been added. */
async function prepare(
  deps: HostMemberDeps,
  { attempt }: HostRecord,
  signal: AbortSignal,
): Promise<void> {
  await endOldMember(deps);
  if (attempt > 0 && preparedAttempt(deps.paths) !== attempt) {
    const waitMs = Math.min(firstBackoffMs * 2 ** (attempt - 1), longestBackoffMs);
    await pause(waitMs, signal);
  }
  signal.throwIfAborted();
  await deps.bringFiles();
  replaceFileSync(attemptFile(deps.paths), String(attempt));
}

/** Starts the member, unless it runs already. */
async function runMember(
  deps: HostMemberDeps,
  record: HostRecord,
  { id, peers }: NonNullable<HostRecord['member']>,
): Promise<void> {
  const { node, cluster, paths, units, log } = deps;
  const known = ownId(paths);
  if (known !== id) {
    // Data of a former membership; its ID would be rejected.
    await endOldMember(deps);
    if (ownId(paths) !== undefined) return;
    replaceFileSync(idFile(paths), id);
  }
  const configured = configuredAddress(paths);
  // An only member has followed its host already, and the keeper has not written it to the record yet.
  const isAhead =
    configured !== undefined && deps.hasAddress(configured) && !deps.hasAddress(record.address);
  const isMoved = configured !== record.address && !isAhead;
  if (!isMoved && hasMemberData(paths) && (await units.isActive(etcdUnit))) return;
  // Its certificates name its addresses.
  if (isMoved) await deps.bringFiles();
  const address = isAhead ? configured : record.address;
  const peerUrl = etcdUrl(address, peerPort);
  const configuration = {
    name: node,
    address,
    cluster,
    members: peers.map((peer) => (peer.name === node ? { name: node, peerUrl } : peer)),
    state: peers.length === 1 ? ('new' as const) : ('existing' as const),
  };
  await startMember(configuration, { paths, units });
  log.info('etcd member started', { id });
}

/** Ends what runs here as a member of former times. */
async function endOldMember(deps: HostMemberDeps): Promise<void> {
  const { paths, units, members, log } = deps;
  const id = ownId(paths);
  if (id === undefined && !hasMemberData(paths)) return;
  // Records may be those of a restored backup: only the members themselves tell that this one is none of them.
  if (id !== undefined && (await members()).some((member) => member.id === id)) return;
  await removeMember({ paths, units });
  rmSync(idFile(paths), { force: true });
  log.info('etcd member removed', { id });
}

/** Ends the member of a host that the cluster does not want as one. */
async function endMember(deps: HostMemberDeps): Promise<void> {
  await endOldMember(deps);
  if (ownId(deps.paths) !== undefined) return;
  rmSync(attemptFile(deps.paths), { force: true });
  await deps.removeFiles();
}

/** Stores which member the data of this host is. */
export function storeOwnId(paths: ClusterPaths, id: string): void {
  replaceFileSync(idFile(paths), id);
}

/** Returns the ID of the member whose data this host has; `undefined` without. */
export function ownId(paths: ClusterPaths): string | undefined {
  return readIfPresent(idFile(paths))?.trim();
}

function preparedAttempt(paths: ClusterPaths): number | undefined {
  const text = readIfPresent(attemptFile(paths));
  return text === undefined ? undefined : Number(text);
}

function idFile(paths: ClusterPaths): string {
  return `${paths.etcd}/member-id`;
}

function attemptFile(paths: ClusterPaths): string {
  return `${dataFolder(paths)}.attempt`;
}
