import { dirname } from 'node:path';
import { hostRoutingChecks, hostRoutingOf } from '../agent/status/host-routing.ts';
import { otherChainChecks } from '../agent/status/other-chains.ts';
import { statusReport } from '../agent/status/status.ts';
import { dockerChecks, installChecks } from '../agent/status/install-checks.ts';
import { leavePath } from '../cluster/leaving/request.ts';
import { movePath, moveRequest } from '../cluster/moving/request.ts';
import type { ChosenBackend } from '../dataplane/iptables/backend.ts';
import { listFilterChains } from '../dataplane/netlink/nftables-chains.ts';
import { prefixRanges } from '../driver/endpoints/extra-addresses.ts';
import { connectedRanges, dockerAddressPools } from '../host/networks.ts';
import { startControlServer, type ControlServer } from '../telemetry/control-server.ts';
import { version } from '../version.ts';
import type { AgentComponent } from './agent-component.ts';
import type { BgpComponent } from './bgp-component.ts';
import type { DockerComponent } from './docker-component.ts';
import type { Common } from './common.ts';
import { lastConflict } from './host-lock.ts';
import { interruptionChecks } from './interruption-checks.ts';
import type { DatastoreComponent } from './datastore-component.ts';
import type { DataMover } from './data-mover.ts';
import { backgroundCheck } from './supervision.ts';

/** Starts the server for `calico-cnm status` and for metrics. */
export function startControlComponent(
  common: Common,
  parts: {
    readonly store: DatastoreComponent;
    readonly agent: AgentComponent;
    readonly bgp: BgpComponent;
    readonly docker: DockerComponent;
    readonly mover: DataMover;
    readonly firewall: ChosenBackend;
    readonly socketFiles: readonly string[];
  },
): Promise<ControlServer> {
  const { settings, signal, node, families, metrics, runner, sockets, supervisor, startedAt } =
    common;
  const { firewall, socketFiles } = parts;
  const { mirror, writer, local } = parts.store;
  const { agent } = parts.agent;
  const { docker } = parts.docker;
  const routedEndpoints = () =>
    local.all().flatMap((id) => {
      const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
      return endpoint !== undefined && agent.isRouted(endpoint) ? [endpoint] : [];
    });
  return startControlServer({
    file: settings.controlSocket,
    metrics,
    reports: { '/bgp': parts.bgp.report },
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
        // In a managed plugin the host's folders are below /host.
        sockets: socketFiles.map((file) => file.replace(/^\/host\//, '/')),
        connected: () => [...connectedRanges(sockets.rtnetlink), ...prefixRanges(mirror, local)],
        dockerPools: dockerAddressPools,
        hostProblems: parts.docker.problems(),
        moreChecks: [
          ...parts.docker.nodeChecks(),
          ...parts.docker.networkChecks(),
          ...parts.mover.checks(),
          ...(settings.etcdEndpoints === undefined ? interruptionChecks(settings) : []),
          ...(await parts.bgp.checks()),
          ...parts.store.restored.checks(),
          backgroundCheck(supervisor.reports()),
          ...installChecks(lastConflict(dirname(settings.controlSocket))),
          ...otherChainChecks((isRequested) => listFilterChains(sockets.netfilter, isRequested)),
          ...hostRoutingChecks(hostRoutingOf(sockets.rtnetlink), routedEndpoints()),
          ...(await dockerChecks({ docker, mirror, node }, signal)),
        ],
      });
    },
    commands: {
      [movePath]: async (body, progress) => parts.mover.move(moveRequest.parse(body), progress),
      [leavePath]: async (_body, progress) => parts.mover.leaveCluster(progress),
    },
    work: () => ({
      forks: runner.forks,
      tableTransactions: agent.health.tableTransactions,
      netlinkRequests:
        sockets.rtnetlink.requests +
        sockets.removals.requests +
        sockets.netfilter.requests +
        sockets.flows.requests,
      datastoreTransactions: writer.transactions,
    }),
  });
}
