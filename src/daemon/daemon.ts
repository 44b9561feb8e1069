import { randomBytes, randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Work } from '../async/supervise.ts';
import { Agent } from '../agent/agent.ts';
import { openDrivers } from '../agent/kernel.ts';
import { collectGarbage } from '../agent/reclaim/garbage-collector.ts';
import { openKernelSockets } from '../dataplane/kernel-sockets.ts';
import { createLinks, looseVeths } from '../workload/links.ts';
import { statusReport } from '../agent/status/status.ts';
import { logUnenforced } from '../agent/status/unenforced.ts';
import { dockerChecks, wayChecks } from '../agent/status/way-checks.ts';
import type { Settings } from '../config/settings.ts';
import { HeldHostPorts } from '../dataplane/held-host-ports.ts';
import { Ipv6Forwarding } from '../dataplane/host-settings.ts';
import { chooseBackend } from '../dataplane/iptables/backend.ts';
import { isNamespaceInUse } from '../dataplane/namespace-use.ts';
import { KernelMonitor } from '../dataplane/netlink/monitor.ts';
import { ToolRunner } from '../dataplane/process.ts';
import { GroupWriter } from '../cache/group-writer.ts';
import { LiveMirror } from '../cache/live-mirror.ts';
import { isMirrorLocked, lockedError } from '../cache/lock.ts';
import { openDatastore } from '../datastore/open-datastore.ts';
import { keepSnapshot, readSnapshot } from '../cache/snapshot.ts';
import { createDockerApi } from '../driver/docker/docker-api.ts';
import { FailedStarts } from '../driver/failed-starts.ts';
import type { Engine } from '../driver/docker/messages.ts';
import { withoutPolicyLabels } from '../driver/endpoints/policy-labels.ts';
import { keepInSyncWithDocker } from '../driver/docker-sync.ts';
import { createEndpoints } from '../driver/endpoints/endpoints.ts';
import { createExternalConnectivity } from '../driver/ports/external-connectivity.ts';
import { indexLocalEndpoints } from '../driver/endpoints/local-endpoints.ts';
import { networkDriverMethods } from '../driver/network-driver.ts';
import { createNetworks } from '../driver/networks/networks.ts';
import { keepTagsShared } from '../driver/endpoints/shared-tags.ts';
import type { SocketFile } from '../driver/plugin/socket-file.ts';
import { createStamp } from '../model/stamp.ts';
import { CalicoError } from '../errors/error.ts';
import { datastoreOptions } from '../host/from-settings.ts';
import {
  connectedRanges,
  defaultMtuBytes,
  dockerAddressPools,
  hasIpv6,
  nodeName,
  rangesInUse,
} from '../host/networks.ts';
import type { IpFamily } from '../ip/address.ts';
import { createDockerIpam } from '../ipam/docker/docker-ipam.ts';
import { createNetworkAddresses } from '../ipam/docker/network-addresses.ts';
import { startControlServer } from '../telemetry/control-server.ts';
import { createLogger } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { makeFirstContents } from './first-contents.ts';
import { pluginServers } from './plugin-servers.ts';
import { ServiceManager } from './service-manager.ts';
import { lastRefusal } from './serving-lock.ts';
import { backgroundCheck, createSupervisor } from './supervision.ts';
import { version } from '../version.ts';
import { watchOver } from './watchdog.ts';

const collectIntervalMs = 30_000;
/** Background work that does not end by then is left: the process ends in any case. */
const longestEndMs = 5000;
/** The kernel monitor comes round each second. */
const mostSilentMs = 120_000;

/**
 * The daemon: builds the parts, ties them together, and runs until the signal is aborted. What running
 * containers need stays in the kernel when it ends.
 */
export async function runDaemon(
  settings: Settings,
  { signal, managed }: { readonly signal: AbortSignal; readonly managed: SocketFile | undefined },
): Promise<void> {
  const now = () => new Date();
  const startedAt = now();
  // Docker logs what a plugin writes to stderr as errors of its own.
  const output = managed === undefined ? process.stderr : process.stdout;
  const log = createLogger({ level: settings.logLevel, write: (line) => output.write(line), now });
  const warn = (text: string) => log.warn(text);
  const node = nodeName(settings.nodeName, warn);
  const stamp = createStamp({ now, uuid: randomUUID });
  const metrics = createMetrics();
  const runner = new ToolRunner();
  const sockets = openKernelSockets();
  const supervisor = createSupervisor({
    log,
    metrics,
    isDatastoreAway: () => mirror.health.inSyncSince === undefined,
  });
  const keep = (
    name: string,
    loop: (work: Work) => Promise<void>,
    options?: { readonly mostSilentMs: number },
  ) => supervisor.keep(supervisor.work(name, options), loop, signal);
  const manager = new ServiceManager(sockets.libc, process.env);
  watchOver({ libc: sockets.libc, supervisor, manager, log }, signal);
  const firewall = await chooseBackend(runner, settings.iptablesBackend, signal);
  const families: readonly IpFamily[] = settings.ipv6 === 'auto' && hasIpv6() ? [4, 6] : [4];

  const datastore = await openDatastore(datastoreOptions(settings));
  const { snapshotFile } = settings;
  // The file of one host is never away; a shared datastore may be.
  const isRemote = settings.etcdEndpoints !== undefined;
  const mirror = new LiveMirror(
    datastore,
    async () => (isRemote ? readSnapshot(snapshotFile, datastore.endpoint, warn) : undefined),
    supervisor.work('mirror listeners'),
  );
  const writer = new GroupWriter(mirror);
  const local = indexLocalEndpoints(mirror, node);
  const engine = createDockerApi(settings.dockerHost);
  const docker = settings.labelEndpoints ? engine : withoutPolicyLabels(engine);
  let engineProblem: string | undefined;
  const onEngine = ({ isRootless }: Engine) => {
    engineProblem = isRootless
      ? new CalicoError('docker/rootless', { address: docker.address }).message
      : undefined;
    if (engineProblem !== undefined) log.error(engineProblem);
  };
  const heldPorts = new HeldHostPorts(sockets.libc);
  const agent = new Agent({
    node,
    mirror,
    log,
    supervisor,
    drivers: openDrivers({ sockets, runner, chosen: firewall, families }),
    heldPorts,
    families,
    statics: { endpointToHostAction: settings.endpointToHostAction },
    ipv6Forwarding: new Ipv6Forwarding(settings.controlSocket, warn),
    endsForbiddenFlows: settings.removedRuleFlows === 'end',
  });
  const links = createLinks({ sockets, log, onMade: (...made) => agent.linkMade(...made) });
  const addresses = createNetworkAddresses({ now, stamp });
  const networks = createNetworks({
    node,
    writer,
    addresses,
    stamp,
    createProfiles: settings.createProfiles,
  });
  const programmed = (endpointId: string, revision: bigint, stop: AbortSignal) =>
    agent.programmed(endpointId, revision, stop);
  const endpoints = createEndpoints({
    node,
    mirror,
    writer,
    addresses,
    docker,
    local,
    links,
    stamp,
    log,
    defaultMtuBytes: () => settings.mtuBytes ?? defaultMtuBytes(sockets.rtnetlink),
    interfacePrefix: settings.interfacePrefix,
    programmed,
  });
  const connectivity = createExternalConnectivity({
    node,
    mirror,
    writer,
    heldPorts,
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
  });
  const initialised = makeFirstContents(
    {
      node,
      settings,
      families,
      mirror,
      writer,
      stamp,
      work: supervisor.work('first contents'),
      rangesInUse: () => rangesInUse(sockets.rtnetlink),
    },
    signal,
  );
  const failedStarts = new FailedStarts({
    docker,
    log,
    isDatastoreBack: () => mirror.health.inSyncSince !== undefined && !isMirrorLocked(mirror),
  });
  const serverWith = pluginServers({
    network: networkDriverMethods({
      networks,
      endpoints,
      gateways: agent.managers.containers,
      connectivity,
    }),
    ipam,
    initialised,
    whyNotReady: (error) =>
      isMirrorLocked(mirror) ? lockedError(datastore.endpoint) : mirror.whyNotInSync(error),
    log,
    metrics,
    onActivated: () => connectivity.engineBegan(),
    logsBodies: settings.logLevel === 'debug',
    onRefused: (callId, { code }) => failedStarts.refused(callId, code),
  });

  const monitor = new KernelMonitor(sockets.libc, (events) => agent.onKernelEvents(events));
  const monitoring = keep('kernel monitor', (work) => monitor.run(signal, () => work.turned()), {
    mostSilentMs,
  });
  agent.start(signal);
  const sharing = keep('shared tags', (work) =>
    keepTagsShared({ mirror, writer, local, work }, signal),
  );
  logUnenforced(mirror, log);
  const following = keep('datastore mirror', () => mirror.run(signal));
  const saving = isRemote
    ? keep('snapshot', (work) => keepSnapshot({ mirror, file: snapshotFile, work }, signal))
    : Promise.resolve();
  const socketFiles = ['calico.sock', 'calico-ipam.sock'].map((file) =>
    join(settings.pluginDirectory, file),
  );
  // Whoever finds the plugin there finds its status, too.
  const control = await startControlServer({
    file: settings.controlSocket,
    metrics,
    status: async () => {
      metrics.quarantined.set(local.quarantined().length);
      return statusReport({
        version,
        node,
        startedAt,
        mirror,
        agent,
        local,
        firewall,
        families,
        // In a managed plugin the host's folders lie below /host.
        sockets: socketFiles.map((file) => file.replace(/^\/host\//, '/')),
        connected: () => connectedRanges(sockets.rtnetlink),
        dockerPools: dockerAddressPools,
        hostProblems: engineProblem === undefined ? [] : [engineProblem],
        moreChecks: [
          backgroundCheck(supervisor.reports()),
          ...wayChecks(lastRefusal(dirname(settings.controlSocket))),
          ...(await dockerChecks({ docker, mirror, node }, signal)),
        ],
      });
    },
    work: () => ({
      forks: runner.forks,
      tableTransactions: agent.health.tableTransactions,
      netlinkRequests:
        sockets.rtnetlink.requests + sockets.removals.requests + sockets.netfilter.requests,
      datastoreTransactions: writer.transactions,
    }),
  });
  const server = await serverWith('local');
  await server.listen(socketFiles);
  const managedServer = managed && (await serverWith(settings.scope));
  if (managed !== undefined) managedServer?.serve(managed);
  manager.ready();
  log.info('calico-cnm serves Docker', {
    version,
    node,
    datastore: datastore.endpoint,
    firewall: `iptables-${firewall.backend}`,
  });
  const background = initialised.then(() =>
    Promise.all([
      keepInSyncWithDocker(
        {
          node,
          docker,
          mirror,
          writer,
          networks,
          local,
          stamp,
          log,
          supervisor,
          onNetworksChanged: (sandbox) => agent.managers.containers.changed(sandbox),
          onEngine,
        },
        signal,
      ),
      ...(settings.startFailedContainers
        ? [keep('failed starts', (work) => failedStarts.run(work, signal))]
        : []),
      keep('garbage collection', (work) =>
        collectGarbage(
          {
            node,
            mirror,
            writer,
            docker,
            local,
            log,
            work,
            removeNetwork: (id, stop) => networks.remove(id, stop),
            removeEndpoint: (id, stop) => endpoints.remove({ NetworkID: '', EndpointID: id }, stop),
            looseVeths: () => looseVeths(sockets),
            removeVeth: (name) => links.removeVeth(name),
            intervalMs: collectIntervalMs,
          },
          signal,
        ),
      ),
    ]),
  );

  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  manager.stopping();
  log.info('calico-cnm stops; running containers keep their network');
  await Promise.all([server.close(), managedServer?.close()]);
  await control.close();
  const ending = Promise.all([monitoring, sharing, following, saving, background]);
  await Promise.race([ending, sleep(longestEndMs)]);
  monitor.close();
  await datastore.close();
  sockets.close();
}
