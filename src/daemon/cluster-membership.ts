import { pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import {
  joinedClusterFile,
  writeClusterFile,
  type ClusterFile,
  type ClusterPaths,
} from '../cluster/cluster-file.ts';
import { followCuts } from '../cluster/etcd/cut-connections.ts';
import type { Member } from '../cluster/etcd/admin.ts';
import { candidatesOf, findMembers } from '../cluster/etcd/find-members.ts';
import { followOwnRecord } from '../cluster/etcd/host-member.ts';
import { keepMembers } from '../cluster/etcd/keeper.ts';
import { configuredPeers } from '../cluster/etcd/local-member.ts';
import { followLostAddress } from '../cluster/etcd/moved-member.ts';
import { installedVersion } from '../cluster/etcd/package.ts';
import { hasSystemd, type UnitManager } from '../cluster/etcd/units.ts';
import { unitsOf } from '../cluster/etcd/units-by-hand.ts';
import { adminOptions, hasAdminCredential, nodeOptions, openEtcd } from '../cluster/etcd-access.ts';
import { CalicoError } from '../errors/error.ts';
import type { IpFamily } from '../ip/address.ts';
import type { Logger } from '../telemetry/log.ts';

/** The loops of a host of a cluster: its own member, the keeper of all members, and the endpoints that it uses. */

const pollMs = 1000;
/** How often the members are compared with the endpoints in the cluster file. */
const endpointsMs = 2000;

export interface MembershipDeps {
  readonly paths: ClusterPaths;
  readonly log: Logger;
  /** The program runs in the managed plugin. */
  readonly isManagedPlugin: boolean;
  /** The address of this host for others; `undefined` if it has none. */
  readonly address: () => string | undefined;
  /** The same, as it is chosen now, while the datastore does not respond. */
  readonly detectAddress: (family: IpFamily) => Promise<string | undefined>;
  /** All addresses of the interfaces of this host. */
  readonly hostAddresses: () => readonly string[];
  /** Brings what a member needs, from the members; repeatable. */
  readonly bringFiles: () => Promise<unknown>;
  /** Removes what only a member has; repeatable. */
  readonly removeFiles: () => void;
  /** The addresses of all nodes, as far as they are known. */
  readonly nodeAddresses: () => readonly string[];
  /** Uses these endpoints from now on. */
  readonly useEndpoints: (endpoints: readonly string[]) => Promise<void>;
}

/** Runs `use` with the endpoints of the cluster file, and again with others when they have changed. */
async function withEndpoints(
  { paths, work }: { readonly paths: ClusterPaths; readonly work: Work },
  isReady: () => boolean,
  use: (file: ClusterFile, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const file = isReady() ? joinedClusterFile(paths) : undefined;
    if (file === undefined) {
      // What failed last concerns a cluster that this host has left.
      work.succeeded();
      await pause(pollMs, signal);
      continue;
    }
    const changed = new AbortController();
    const watching = (async () => {
      const isSame = () => joinedClusterFile(paths)?.endpoints.join() === file.endpoints.join();
      try {
        while (!signal.aborted && !changed.signal.aborted && isSame() && isReady()) {
          await pause(pollMs, AbortSignal.any([signal, changed.signal]));
        }
      } finally {
        changed.abort();
      }
    })();
    // A file that cannot be read is thrown below; until then its error must not end the process.
    watching.catch(() => undefined);
    try {
      await use(file, AbortSignal.any([signal, changed.signal]));
    } finally {
      changed.abort();
      await watching;
    }
  }
}

/** Follows the record of this host: prepares, starts and ends its member. */
export function followMember(deps: MembershipDeps, work: Work, signal: AbortSignal): Promise<void> {
  const { paths, log, isManagedPlugin } = deps;
  return withEndpoints(
    { paths, work },
    () => true,
    async (file, stop) => {
      await using opened = await openEtcd(nodeOptions(paths, file.endpoints));
      const { datastore, admin } = opened;
      await followOwnRecord(
        {
          node: file.node,
          cluster: file.uid,
          datastore,
          paths,
          units: loggingUnits(deps),
          address: deps.address,
          hasAddress: (address) => deps.hostAddresses().includes(address),
          etcdVersion: () => ownVersion(isManagedPlugin),
          bringFiles: deps.bringFiles,
          removeFiles: async () => deps.removeFiles(),
          members: () => admin.members(),
          log,
        },
        work,
        stop,
      );
    },
    signal,
  );
}

async function ownVersion(isManagedPlugin: boolean): Promise<string> {
  if (isManagedPlugin) throw new CalicoError('cluster/no-systemd', { where: 'the managed plugin' });
  if (!hasSystemd()) {
    throw new CalicoError('cluster/no-systemd', { where: 'a host without systemd' });
  }
  const version = await installedVersion();
  if (version === undefined) throw new CalicoError('cluster/etcd-missing', {});
  return version;
}

/** Keeps the members, on hosts with the administrator's credential. */
export function runKeeper(deps: MembershipDeps, work: Work, signal: AbortSignal): Promise<void> {
  const { paths, log } = deps;
  return withEndpoints(
    { paths, work },
    () => hasAdminCredential(paths),
    async (file, stop) => {
      await using opened = await openEtcd(adminOptions(paths, file.endpoints));
      const { node } = file;
      await Promise.all([
        keepMembers({ ...opened, node, log }, work, stop),
        followCuts({ ...opened, node, paths, units: loggingUnits(deps) }, work, stop),
      ]);
    },
    signal,
  );
}

/**
 * Keeps the endpoints in the cluster file those of the voters, and the part of this host. If none of them responds, it
 * looks for the members on all hosts.
 */
export function followEndpoints(
  deps: MembershipDeps,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  const { paths, useEndpoints } = deps;
  return withEndpoints(
    { paths, work },
    () => true,
    async (file, stop) => {
      const { endpoints } = file;
      await using opened = await openEtcd(nodeOptions(paths, endpoints));
      await useEndpoints(endpoints);
      while (!stop.aborted) {
        try {
          const members = await opened.admin
            .members()
            .catch((error: unknown) => membersElsewhere(deps, { file, error, stop }));
          const present = joinedClusterFile(paths);
          const changed = present && withMembers(present, members);
          if (changed !== undefined) writeClusterFile(paths, changed);
          work.succeeded();
        } catch (error) {
          // The calls of the daemon itself report it.
          if (!stop.aborted) work.failed(error);
        }
        await pause(endpointsMs, stop);
      }
    },
    signal,
  );
}

/**
 * Returns the members when no known endpoint responds, with this error: found on other hosts. If this host has the only
 * member, and another address now, etcd is restarted with it, and the error is thrown.
 */
async function membersElsewhere(
  deps: MembershipDeps,
  {
    file,
    error,
    stop,
  }: { readonly file: ClusterFile; readonly error: unknown; readonly stop: AbortSignal },
): Promise<readonly Member[]> {
  const { paths, nodeAddresses, log } = deps;
  const moved = await followLostAddress(file, { ...deps, units: loggingUnits(deps) });
  if (moved !== undefined) {
    log.info('etcd restarted with the new address of this host', { address: moved });
    throw error;
  }
  const known = { known: file.endpoints, configured: configuredPeers(paths) };
  const candidates = candidatesOf({ ...known, hosts: nodeAddresses() });
  if (candidates.length === 0 || stop.aborted) throw error;
  return findMembers(candidates, (one) => openEtcd(nodeOptions(paths, [one])));
}

/** Returns the service manager of this host; what its user has to type is logged. */
function loggingUnits(deps: MembershipDeps): UnitManager {
  return unitsOf(deps, (line) => deps.log.warn(line));
}

/** Returns the file with the members; `undefined` if it has them. */
export function withMembers(
  file: ClusterFile,
  members: readonly Member[],
): ClusterFile | undefined {
  const voters = members.filter(({ isLearner, clientUrls }) => !isLearner && clientUrls.length > 0);
  const endpoints = voters.flatMap(({ clientUrls }) => clientUrls.slice(0, 1)).toSorted();
  if (endpoints.length === 0) return undefined;
  const part = voters.some(({ name }) => name === file.node) ? 'member' : 'client';
  const isSame = endpoints.join() === file.endpoints.toSorted().join() && part === file.part;
  return isSame ? undefined : { ...file, endpoints, part };
}
