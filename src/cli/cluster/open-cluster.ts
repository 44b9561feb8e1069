import { setTimeout as sleep } from 'node:timers/promises';
import { requireJoined, type ClusterFile, type ClusterPaths } from '../../cluster/cluster-file.ts';
import { nodeAccess } from '../../cluster/datastore-access.ts';
import { observeMembers } from '../../cluster/etcd/observed-members.ts';
import {
  adminOptions,
  hasAdminCredential,
  openEtcdPatiently,
  type OpenedEtcd,
} from '../../cluster/etcd-access.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import type { CliContext } from '../context.ts';

/** What the commands for the cluster of this host share. */

/** Timeout for the keeper to take a host out, in milliseconds. */
export const longestMs = 120_000;
const lookMs = 300;

/** Opens the cluster of this host, with the best credential that it has. Throws `cluster/none`, `cluster/interrupted`. */
export function openCluster(paths: ClusterPaths): Promise<OpenedEtcd> {
  return openWith(paths, requireJoined(paths));
}

/** As `openCluster`, by a cluster file, which may be that of an interrupted command. */
export function openWith(paths: ClusterPaths, file: ClusterFile): Promise<OpenedEtcd> {
  return openEtcdPatiently(
    hasAdminCredential(paths) ? adminOptions(paths, file.endpoints) : nodeAccess(paths, file),
  );
}

/**
 * Waits until nothing is left to be done; reports what is, whenever that changes. Members restart meanwhile, to end the
 * connections of a removed host, and one that is lost does not even refuse a connection. Throws `cluster/takes-long`.
 */
export async function until(
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

export async function hasMember({ admin, datastore }: OpenedEtcd, node: string): Promise<boolean> {
  const { members } = await observeMembers({ admin, datastore }, AbortSignal.timeout(longestMs));
  return members.some(({ host }) => host?.node === node);
}
