import { Agent } from '../agent/agent.ts';
import { domainAddressesFile } from '../agent/saved-domain-addresses.ts';
import { trustedResolver } from '../agent/trusted-resolver.ts';
import { openDrivers } from '../agent/kernel.ts';
import { logUnenforced } from '../agent/status/unenforced.ts';
import { HostPortReservations } from '../dataplane/host-ports/host-port-reservations.ts';
import { hostRulesFile } from '../dataplane/host-rules-file.ts';
import { Ipv6Forwarding } from '../dataplane/host-settings.ts';
import type { ChosenBackend } from '../dataplane/iptables/backend.ts';
import { KernelMonitor } from '../dataplane/netlink/monitor.ts';
import { uplinksOf } from '../host/networks.ts';
import { createLinks, type Links } from '../workload/links.ts';
import { UplinkMtu } from '../workload/uplink-mtu.ts';
import type { Common } from './common.ts';
import type { DatastoreComponent } from './datastore-component.ts';

/** The kernel monitor reports every second. */
const maxSilentMs = 120_000;

/** The agent, and the kernel objects that Docker's calls use in addition. */
export interface AgentComponent {
  readonly agent: Agent;
  readonly hostPorts: HostPortReservations;
  readonly links: Links;
  readonly uplinkMtu: UplinkMtu;
  /** Calls the function when addresses of the host change; returns a function that unsubscribes. */
  readonly onAddresses: (changed: () => void) => () => void;
  /** Follows datastore and kernel until the daemon's signal is aborted. */
  run(): Promise<void>;
  close(): void;
}

export function createAgentComponent(
  common: Common,
  { mirror, firewall }: Pick<DatastoreComponent, 'mirror'> & { readonly firewall: ChosenBackend },
): AgentComponent {
  const { settings, signal, node, families, log, sockets, runner, supervisor, keep } = common;
  const hostPorts = new HostPortReservations(sockets.libc);
  const agent = new Agent({
    node,
    mirror,
    log,
    supervisor,
    drivers: openDrivers({
      sockets,
      runner,
      chosen: firewall,
      families,
      denyAction: settings.filterDenyAction === 'Reject' ? 'reject' : 'drop',
    }),
    hostPorts,
    families,
    statics: { endpointToHostAction: settings.endpointToHostAction },
    ipv6Forwarding: new Ipv6Forwarding(settings.controlSocket, (text) => log.warn(text)),
    resolvesNames: settings.namesAcrossHosts,
    resolveTrusted: trustedResolver(settings.dnsTrustedServers),
    endsForbiddenFlows: settings.removedRuleFlows === 'end',
    hostRulesFile: hostRulesFile(settings),
    domainAddressesFile: domainAddressesFile(settings),
  });
  const links = createLinks({ sockets, log, onMade: (...made) => agent.linkMade(...made) });
  const uplinkMtu = new UplinkMtu((own) => uplinksOf(sockets.rtnetlink, own));
  const onAddresses = new Set<() => void>();
  const monitor = new KernelMonitor(sockets.libc, (events) => {
    if (events.some(({ kind }) => kind === 'address' || kind === 'overrun')) {
      for (const changed of onAddresses) changed();
    }
    uplinkMtu.onKernelEvents(events);
    agent.onKernelEvents(events);
  });
  return {
    agent,
    hostPorts,
    links,
    uplinkMtu,
    onAddresses: (changed) => {
      onAddresses.add(changed);
      return () => onAddresses.delete(changed);
    },
    run: () => {
      const monitoring = keep(
        'kernel monitor',
        (work) => monitor.run(signal, () => work.turned()),
        { maxSilentMs },
      );
      agent.start(signal);
      logUnenforced(mirror, log);
      return monitoring;
    },
    close: () => monitor.close(),
  };
}
