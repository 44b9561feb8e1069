import { statSync, existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { CalicoError, hasErrorCode } from '../errors/error.ts';
import type { ClusterPaths } from './cluster-file.ts';
import { clientPort, etcdUnit, peerPort } from './etcd/configuration.ts';
import { hasSystemd, type UnitManager } from './etcd/units.ts';
import { joinPort } from './joining/protocol.ts';

/** What a host needs to become a member, checked before anything changes. */

/** Free space for etcd, in bytes: its log reserves 64 MiB at once, and a database in use takes tens of MiB. */
const neededBytes = 512 << 20;
/** How far the clock may be behind the time of a file, in milliseconds. */
const toleranceMs = 3_600_000;

export interface Preflight {
  readonly address: string;
  readonly paths: ClusterPaths;
  readonly units: UnitManager;
  /** The program runs inside of Docker's managed plugin. */
  readonly isManagedPlugin: boolean;
  /** Files that were written in the past. */
  readonly writtenFiles: readonly string[];
  readonly now: Date;
}

/**
 * Throws why this host cannot run a member: `cluster/no-systemd`, `cluster/clock-behind`, `cluster/disk-full`,
 * `cluster/port-in-use`. Ports are not checked while its etcd runs, as after an interruption.
 */
export async function checkMemberHost(host: Preflight): Promise<void> {
  const { address, paths, units, isManagedPlugin } = host;
  if (!isManagedPlugin && !hasSystemd()) {
    throw new CalicoError('cluster/no-systemd', { where: 'a host without systemd' });
  }
  checkClock(host);
  await checkDisk(paths);
  if (await units.isActive(etcdUnit)) return;
  for (const port of [clientPort, peerPort, joinPort]) await checkPort(address, port);
}

function checkClock({ writtenFiles, now }: Preflight): void {
  for (const file of writtenFiles) {
    if (!existsSync(file)) continue;
    const { mtime } = statSync(file);
    if (now.getTime() < mtime.getTime() - toleranceMs) {
      const times = { now: now.toISOString(), file, written: mtime.toISOString() };
      throw new CalicoError('cluster/clock-behind', times);
    }
  }
}

async function checkDisk({ folder }: ClusterPaths): Promise<void> {
  // The folder does not exist before `init`; its parent has the datastore of this host.
  const at = existsSync(folder) ? folder : `${folder}/..`.replace(/\/[^/]+\/\.\.$/, '');
  const { bavail, bsize } = await statfs(at);
  const freeBytes = bavail * bsize;
  if (freeBytes >= neededBytes) return;
  const mebibytes = (bytes: number) => Math.floor(bytes / (1 << 20));
  throw new CalicoError('cluster/disk-full', {
    folder: at,
    free: mebibytes(freeBytes),
    needed: mebibytes(neededBytes),
  });
}

async function checkPort(address: string, port: number): Promise<void> {
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host: address, port, exclusive: true }, resolve);
  try {
    await promise;
  } catch (error) {
    if (hasErrorCode(error, 'EADDRINUSE')) {
      throw new CalicoError('cluster/port-in-use', { address, port }, { cause: error });
    }
    throw error;
  } finally {
    server.close();
  }
}
