import { hostname } from 'node:os';
import { existsSync } from 'node:fs';
import { pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { memberAccess } from '../cluster/admin-access.ts';
import { clusterPaths, joinedClusterFile, type ClusterFile } from '../cluster/cluster-file.ts';
import { openEtcdPatiently } from '../cluster/etcd-access.ts';
import { detectAddresses, hostInterfaces } from '../host/node-addresses.ts';
import { isGlobal, isOfContainers } from '../host/autodetection.ts';
import { nodeIps } from '../host/node-liveness.ts';
import type { IpFamily } from '../ip/address.ts';
import type * as Loops from './cluster-membership.ts';
import type { MembershipDeps } from './cluster-membership.ts';
import type { Common } from './common.ts';
import type { DatastoreComponent } from './datastore-component.ts';

/** How often the files of the cluster are read: another process, `cluster init` or `join`, writes them. */
const pollMs = 1000;
/** Time for the daemon to stop, in milliseconds. */
const restartMs = 60_000;
/** How often certificates are compared with what they should be. */
const certificatesMs = 30_000;

/** The parts of a host in its cluster; they run once it has one. */
export interface ClusterComponent {
  /** Runs until the daemon's signal is aborted. */
  run(): Promise<unknown>;
}

export function createClusterComponent(
  common: Common,
  { datastore, mirror }: Pick<DatastoreComponent, 'datastore' | 'mirror'>,
): ClusterComponent {
  const { settings, keep, signal, log, sockets, now, node } = common;
  const paths = clusterPaths(settings);
  const isUsed = settings.etcdEndpoints === undefined;
  const joined = (): ClusterFile | undefined => (isUsed ? joinedClusterFile(paths) : undefined);
  let waiting: Promise<void> | undefined;
  /** Resolves when this host has a cluster, or at the end; the loops that wait for it share one poll. */
  const untilJoined = (): Promise<void> => {
    waiting ??= (async () => {
      while (joined() === undefined && !signal.aborted) await pause(pollMs, signal);
    })().finally(() => {
      waiting = undefined;
    });
    return waiting;
  };
  const isMember = () =>
    joined() !== undefined && [paths.caKey, paths.adminKey, paths.serverCert].every(existsSync);
  /** Addresses and names by which other hosts reach this one. */
  const names = () => [
    ...new Set([
      ...hostInterfaces(sockets.rtnetlink)
        .filter((one) => !isOfContainers(one))
        .flatMap(({ addresses }) => addresses.filter(isGlobal).map(({ address }) => address)),
      node,
      hostname(),
    ]),
  ];

  const connect = async (endpoints: readonly string[]): Promise<void> => {
    if (datastore.leases === undefined || endpoints.length === 0) return;
    await datastore.reconnect(endpoints);
    log.info('connected to other endpoints or with another certificate', { endpoints });
  };
  const useEndpoints = async (endpoints: readonly string[]): Promise<void> => {
    const isSame =
      new Set(datastore.endpoint.split(',')).symmetricDifference(new Set(endpoints)).size === 0;
    if (!isSame) await connect(endpoints);
  };
  const address = () => {
    const own = mirror.inSync ? mirror.get('Node', node)?.value : undefined;
    return own === undefined ? undefined : nodeIps(own)[0];
  };
  const detectAddress = async (family: IpFamily) => {
    const { detected } = await detectAddresses(sockets.rtnetlink, {
      4: { address: settings.ip, method: settings.ipDetection },
      6: { address: settings.ip6, method: settings.ip6Detection },
    });
    return detected[family].address?.replace(/\/.*$/, '');
  };
  const hostAddresses = () =>
    hostInterfaces(sockets.rtnetlink).flatMap(({ addresses }) =>
      addresses.map(({ address }) => address),
    );
  /** Loads the library of etcd only on a host of a cluster. */
  const membership = async (
    use: (loops: typeof Loops, deps: MembershipDeps) => Promise<void>,
  ): Promise<void> => {
    await untilJoined();
    if (signal.aborted) return;
    const loops = await import('./cluster-membership.ts');
    const { bringMemberFiles, removeMemberFiles } =
      await import('../cluster/joining/member-files.ts');
    await use(loops, {
      paths,
      log,
      isManagedPlugin: settings.managedSocket !== undefined,
      address,
      detectAddress,
      hostAddresses,
      bringFiles: () => bringMemberFiles({ paths, node, names: names(), now: now() }),
      removeFiles: () => removeMemberFiles(paths),
      nodeAddresses: () =>
        [...mirror.cached('Node').values()].flatMap(({ value }) => nodeIps(value)),
      useEndpoints,
    });
  };
  /** etcd reads the certificate of the authority when it starts; all others at each handshake. */
  const restartMembers = async (): Promise<void> => {
    const { requestCut } = await import('../cluster/etcd/cut-connections.ts');
    await using opened = await openEtcdPatiently(memberAccess(paths).datastore);
    await requestCut(opened.datastore, signal);
  };
  /** Certificates that are not in use yet. */
  const renewed = new Set<string>();
  const keepCertificates = async (work: Work): Promise<void> => {
    await untilJoined();
    while (!signal.aborted) {
      if (joined() !== undefined) {
        const { renewCertificates } = await import('../cluster/joining/member-files.ts');
        const files = await renewCertificates({ paths, node, names: names(), now: now() });
        for (const file of files) renewed.add(file);
        for (const file of files) log.info('certificate renewed', { file });
        if (renewed.has(paths.nodeCert)) await connect(joined()?.endpoints ?? []);
        renewed.delete(paths.nodeCert);
        if (renewed.has(paths.ca)) await restartMembers();
        renewed.clear();
      }
      work.succeeded();
      await pause(joined() === undefined ? pollMs : certificatesMs, signal);
    }
  };
  const serveJoins = async (work: Work): Promise<void> => {
    await untilJoined();
    while (!signal.aborted) {
      const file = isMember() ? joined() : undefined;
      if (file === undefined) {
        work.succeeded();
        await pause(pollMs, signal);
        continue;
      }
      const { serveHosts } = await import('./serve-hosts.ts');
      const isCurrent = () => isMember() && joined()?.endpoints.join() === file.endpoints.join();
      await serveHosts({ paths, file, log, now, work, isCurrent, pollMs }, signal);
    }
  };
  /** A host that has left begins anew with a datastore of its own; nothing that it knows is of use there. */
  const restartAfterLeave = async (): Promise<void> => {
    while (!signal.aborted) {
      await untilJoined();
      while (existsSync(paths.file) && !signal.aborted) await pause(pollMs, signal);
      // The last host of a cluster has its data in its file again.
      if (signal.aborted || datastore.leases === undefined) continue;
      log.warn('this host has left its cluster; the daemon restarts');
      process.kill(process.pid, 'SIGTERM');
      await pause(restartMs, signal);
    }
  };
  return {
    run: () =>
      Promise.all([
        keep('cluster certificates', keepCertificates),
        keep('join server', serveJoins),
        keep('cluster departure', restartAfterLeave),
        keep('cluster member', (work) =>
          membership((loops, deps) => loops.followMember(deps, work, signal)),
        ),
        keep('cluster keeper', (work) =>
          membership((loops, deps) => loops.runKeeper(deps, work, signal)),
        ),
        keep('cluster endpoints', (work) =>
          membership((loops, deps) => loops.followEndpoints(deps, work, signal)),
        ),
      ]),
  };
}
