import { randomBytes } from 'node:crypto';
import { reclaimLeaks } from '../agent/reclaim/reclaim-leaks.ts';
import { isMirrorLocked, lockedError, mirrorLockMark } from '../cache/lock.ts';
import { isNamespaceInUse } from '../dataplane/namespace-use.ts';
import { keepInSyncWithDocker } from '../driver/docker-sync.ts';
import { followContainers } from '../driver/container-lives.ts';
import { createDockerApi, type DockerApi } from '../driver/docker/docker-api.ts';
import type { Engine } from '../driver/docker/messages.ts';
import { AliasLearner } from '../driver/endpoints/aliases.ts';
import { createEndpoints } from '../driver/endpoints/endpoints.ts';
import { labelFilter } from '../driver/endpoints/container-labels.ts';
import { withoutPolicyLabels } from '../driver/endpoints/policy-labels.ts';
import { FailedStarts } from '../driver/failed-starts.ts';
import { networkDriverMethods } from '../driver/network-driver.ts';
import { DefinedNetworks } from '../driver/networks/keep-defined-networks.ts';
import { createNetworks } from '../driver/networks/networks.ts';
import type { PluginServer } from '../driver/plugin/plugin-server.ts';
import { createExternalConnectivity } from '../driver/ports/external-connectivity.ts';
import { canWrite } from '../datastore/can-write.ts';
import { CalicoError } from '../errors/error.ts';
import { connectedRanges, rangesInUse } from '../host/networks.ts';
import { detectAddresses } from '../host/node-addresses.ts';
import { createDockerIpam } from '../ipam/docker/docker-ipam.ts';
import { createNetworkAddresses } from '../ipam/docker/network-addresses.ts';
import { entryTypeOf } from '../model/kinds/index.ts';
import { endpointIdsOf } from '../model/kinds/workload-endpoint.ts';
import { orphanedVeths } from '../workload/links.ts';
import type { AgentComponent } from './agent-component.ts';
import { initializeDatastore } from './initialize-datastore.ts';
import { NodeAddress } from './node-address.ts';
import { mtuOfContainer, underlayAddresses } from './container-mtu.ts';
import { keepTunnelAddresses } from './tunnel-addresses.ts';
import type { Common } from './common.ts';
import { pluginServers } from './plugin-servers.ts';
import type { Check } from '../telemetry/status-report.ts';
import type { DatastoreComponent } from './datastore-component.ts';

const reclaimIntervalMs = 30_000;

/** Serves Docker, and keeps this host's data in the datastore in sync with Docker. */
export interface DockerComponent {
  readonly docker: DockerApi;
  /** Creates a server of both plugin APIs; its calls wait for the datastore. */
  readonly serverWith: (scope: 'local' | 'global') => Promise<PluginServer>;
  /** Returns why this engine cannot be served, as sentences. */
  problems(): readonly string[];
  /** Returns the status checks of this host as a node. */
  nodeChecks(): readonly Check[];
  networkChecks(): readonly Check[];
  /** Initializes the datastore, then follows Docker until the daemon's signal is aborted. */
  run(): Promise<unknown>;
}

export function createDockerComponent(
  common: Common,
  { datastore, mirror, writer, presence, local, last }: DatastoreComponent,
  { agent, hostPorts, links, uplinkMtu, onAddresses }: AgentComponent,
  settle: (signal: AbortSignal) => Promise<void>,
): DockerComponent {
  const { settings, signal, node, families, now, stamp, log, sockets, supervisor } = common;
  const engine = createDockerApi(settings.dockerHost);
  const docker = settings.labelEndpoints ? engine : withoutPolicyLabels(engine);
  const isTaken = labelFilter(settings.labels);
  const base = { node, mirror, writer, docker, local, stamp, log, isTaken };
  const addresses = createNetworkAddresses({
    now,
    stamp,
    usedRanges: () => connectedRanges(sockets.rtnetlink),
  });
  const { createProfiles } = settings;
  const mayUseNamespace = (namespace: string, stop: AbortSignal) =>
    canWrite(datastore, entryTypeOf.WorkloadEndpoint.key(endpointIdsOf(node, namespace)), stop);
  const networks = createNetworks({
    node,
    writer,
    addresses,
    stamp,
    createProfiles,
    mayUseNamespace,
  });
  const programmed = (endpointId: string, revision: bigint, stop: AbortSignal) =>
    agent.programmed(endpointId, revision, stop);
  const endpoints = createEndpoints({
    ...base,
    addresses,
    links,
    defaultMtuBytes: (ofContainer) =>
      settings.mtuBytes ??
      mtuOfContainer(mirror, node, {
        addresses: ofContainer,
        uplinkBytes: uplinkMtu.bytes(underlayAddresses(mirror, node)),
      }),
    interfacePrefix: settings.interfacePrefix,
    programmed,
  });
  const connectivity = createExternalConnectivity({
    node,
    mirror,
    writer,
    hostPorts,
    families,
    isAlive: isNamespaceInUse,
    programmed,
  });
  const ipam = createDockerIpam({
    node,
    writer,
    now,
    nonce: () => randomBytes(6).toString('hex'),
    stamp,
    usedRanges: () => connectedRanges(sockets.rtnetlink),
    last,
  });
  const failedStarts = new FailedStarts({
    docker,
    log,
    isDatastoreBack: () => mirror.health.inSyncSince !== undefined && !isMirrorLocked(mirror),
  });
  const work = supervisor.work('datastore initialization');
  const ranges = () => rangesInUse(sockets.rtnetlink);
  const initialised = initializeDatastore(
    {
      node,
      settings,
      families,
      mirror,
      writer,
      presence,
      stamp,
      work,
      settle,
      rangesInUse: ranges,
    },
    signal,
  );
  const choices = {
    4: { address: settings.ip, method: settings.ipDetection },
    6: { address: settings.ip6, method: settings.ip6Detection },
  };
  const nodeAddress = new NodeAddress({
    ...base,
    isShared: () => datastore.leases !== undefined,
    detect: () => detectAddresses(sockets.rtnetlink, choices),
    onAddresses,
  });
  let problem: string | undefined;
  const onEngine = ({ isRootless }: Engine) => {
    problem = isRootless
      ? new CalicoError('docker/rootless', { address: docker.address }).message
      : undefined;
    if (problem !== undefined) log.error(problem);
  };
  const { containers } = agent.managers;
  const aliases = settings.namesAcrossHosts ? new AliasLearner(base) : undefined;
  const defined = new DefinedNetworks({
    ...base,
    now,
    // The plugin of scope global creates networks of a swarm only.
    isManaged: settings.managedSocket !== undefined && settings.scope === 'local',
  });
  const follow = () => {
    const onNetworksChanged = (sandbox: string) => containers.changed(sandbox);
    const following = {
      ...base,
      addresses,
      networks,
      supervisor,
      aliases,
      onNetworksChanged,
      onNetworkList: defined.changed,
      onEngine,
    };
    return Promise.all([
      keepInSyncWithDocker(following, signal),
      common.keep('defined networks', (work) => defined.run(work, signal)),
      common.keep('containers', (lives) =>
        followContainers({ docker, listener: last }, lives, signal),
      ),
      common.keep('tunnel addresses', (tunnels) =>
        keepTunnelAddresses({ ...base, families, now, work: tunnels }, signal),
      ),
      ...(aliases === undefined
        ? []
        : [common.keep('container aliases', (work) => aliases.run(work, signal))]),
      common.keep('node address', (following) => nodeAddress.run(following, signal)),
      common.keep('node report', (reporting) => presence.run(writer, reporting, signal)),
      ...(settings.startFailedContainers
        ? [common.keep('failed starts', (starts) => failedStarts.run(starts, signal))]
        : []),
      common.keep('leak reclamation', (collecting) =>
        reclaimLeaks(
          {
            ...base,
            work: collecting,
            removeNetwork: (id, stop) => networks.remove(id, stop),
            removeEndpoint: (id, stop) => endpoints.remove({ NetworkID: '', EndpointID: id }, stop),
            orphanedVeths: () => orphanedVeths(sockets),
            removeVeth: (name) => links.removeVeth(name),
            intervalMs: reclaimIntervalMs,
          },
          signal,
        ),
      ),
    ]);
  };
  return {
    docker,
    problems: () => (problem === undefined ? [] : [problem]),
    nodeChecks: () => [...presence.checks(), ...nodeAddress.checks()],
    networkChecks: () => defined.checks(),
    serverWith: pluginServers({
      network: networkDriverMethods({ networks, endpoints, gateways: containers, connectivity }),
      ipam,
      initialised,
      isAway: () => work.report().last !== undefined || mirror.health.lastError !== undefined,
      whyNotReady: () =>
        presence.problem ??
        (isMirrorLocked(mirror)
          ? lockedError(datastore.endpoint, mirrorLockMark(mirror))
          : mirror.whyNotInSync()),
      log,
      metrics: common.metrics,
      onActivated: () => connectivity.engineBegan(),
      logsBodies: settings.logLevel === 'debug',
      onRefused: (callId, { code }) => failedStarts.refused(callId, code),
    }),
    run: () => initialised.then(follow),
  };
}
