import { join } from 'node:path';
import { pause } from '../../async/deadline.ts';
import { readIfPresent, replaceFileSync } from '../../async/replace-file.ts';
import type { Work } from '../../async/supervise.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import type { ClusterPaths } from '../cluster-file.ts';
import { clusterKeys } from '../records.ts';
import type { EtcdAdmin, Member } from './admin.ts';
import { etcdUnit } from './configuration.ts';
import { isWorking } from './observed-members.ts';
import type { UnitManager } from './units.ts';

/**
 * Ends the connections of a removed host. etcd checks the rights of a watch only when it begins, so an open one goes on
 * after its user was deleted. The end of its connection ends it, and etcd has no other means for that than its restart:
 * all members restart once, one after the other.
 */

/** Pauses between two looks, and while another member restarts, in milliseconds. */
const [lookMs, turnMs] = [2000, 300];
/** Lifetime of the key of the member that restarts, in seconds. */
const leaseSeconds = 20;

export interface CutDeps {
  readonly node: string;
  /** With the administrator's credential. */
  readonly datastore: Datastore;
  readonly admin: Pick<EtcdAdmin, 'members' | 'status'>;
  readonly paths: ClusterPaths;
  readonly units: Pick<UnitManager, 'restart'>;
}

/** Requests that all members end their connections; to be called after `removeNodeUser`. */
export async function requestCut(
  datastore: Pick<Datastore, 'read' | 'commit'>,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const { number, modRevision } = await readCut(datastore, signal);
    const { kind } = await datastore.commit(
      {
        compares: [{ key: clusterKeys.cut, modRevision }],
        writes: [{ key: clusterKeys.cut, value: String(number + 1) }],
      },
      signal,
    );
    if (kind === 'committed') return;
  }
}

/** Restarts the member of this host once for each request, until the signal is aborted. */
export async function followCuts(deps: CutDeps, work: Work, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    // After a failure it waits as long as when there is nothing to do.
    let isDone = true;
    try {
      isDone = await cutOnce(deps, signal);
      work.succeeded();
    } catch (error) {
      if (!signal.aborted) work.failed(error);
    }
    await pause(isDone ? lookMs : turnMs, signal);
  }
}

/** Restarts the member of this host if that is due and its turn; returns whether nothing is left to be done. */
export async function cutOnce(deps: CutDeps, signal: AbortSignal): Promise<boolean> {
  const { datastore, paths, node, units } = deps;
  const { number } = await readCut(datastore, signal);
  const file = join(paths.etcd, 'cut');
  const text = readIfPresent(file);
  const done = text === undefined ? undefined : Number(text);
  // A member that has just started has no old connections.
  if (done === undefined) replaceFileSync(file, String(number));
  if (done === undefined || done >= number) return true;
  const { leases } = datastore;
  const lease = await leases?.grant(leaseSeconds);
  if (leases === undefined || lease === undefined) return true;
  try {
    const turn = { key: clusterKeys.restarting, modRevision: 0n };
    const write = { key: clusterKeys.restarting, value: node, lease };
    const { kind } = await datastore.commit({ compares: [turn], writes: [write] }, signal);
    if (kind !== 'committed' || !(await isSafe(deps))) return false;
    await units.restart(etcdUnit);
    while (!(await isWell(deps))) await pause(turnMs, signal);
    replaceFileSync(file, String(number));
    return true;
  } finally {
    await leases.revoke(lease);
  }
}

async function statesOf({ admin }: CutDeps) {
  const voters = (await admin.members()).filter(({ isLearner }) => !isLearner);
  return Promise.all(
    voters.map(async (member) => ({ member, isWell: isWorking(await admin.status(member)) })),
  );
}

/** Reports whether the other members keep the quorum meanwhile, or there is no other. */
async function isSafe(deps: CutDeps): Promise<boolean> {
  const states = await statesOf(deps);
  const others = states.filter(({ member }) => !isOwn(deps, member));
  const well = others.filter(({ isWell }) => isWell).length;
  return states.length === 1 || well > states.length / 2;
}

async function isWell(deps: CutDeps): Promise<boolean> {
  try {
    const states = await statesOf(deps);
    return states.some(({ member, isWell }) => isOwn(deps, member) && isWell);
  } catch {
    return false;
  }
}

function isOwn({ node }: CutDeps, { name }: Member): boolean {
  return name === node;
}

async function readCut(datastore: Pick<Datastore, 'read'>, signal: AbortSignal) {
  const {
    items: [found],
  } = await datastore.read([clusterKeys.cut], signal);
  return { number: Number(found?.value ?? 0), modRevision: found?.modRevision ?? 0n };
}
