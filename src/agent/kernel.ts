import { AddressSets } from '../dataplane/address-sets.ts';
import { conntrackOf, type Conntrack } from '../dataplane/conntrack.ts';
import { applyContainerRoutes, type ContainerRoutes } from '../dataplane/container-routes.ts';
import { staleConntrackFlusher } from '../dataplane/stale-conntrack-flusher.ts';
import { hostAddressesOf, type HostAddresses } from '../dataplane/host-addresses.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { ChosenBackend } from '../dataplane/iptables/backend.ts';
import type { KernelSockets } from '../dataplane/kernel-sockets.ts';
import { findLink, setRouteLocalnet, type Link } from '../dataplane/netlink/link.ts';
import type { ToolRunner } from '../dataplane/process.ts';
import { Routes } from '../dataplane/routes.ts';
import type { IpFamily } from '../ip/address.ts';
import { IptablesRenderer } from '../render/iptables/renderer.ts';
import type { Renderer } from '../ruleset/renderer.ts';
import { Firewall } from './firewall.ts';
import { firewallChanges } from './firewall-watch.ts';
import type { Driver, HostEvent, Phase } from './manager.ts';

/**
 * This host's kernel as managers see it: what each driver lets them want and ask. Tests put something else in its
 * place.
 */
export interface Kernel {
  readonly sets: Pick<
    AddressSets,
    | 'setDesired'
    | 'deleteDesired'
    | 'addMember'
    | 'removeMember'
    | 'holds'
    | 'faults'
    | 'applyAdditions'
  >;
  readonly rules: Renderer;
  readonly routes: Pick<
    Routes,
    'setDesired' | 'deleteDesired' | 'setDesiredAddress' | 'deleteDesiredAddress' | 'has' | 'link'
  >;
  readonly links: LinkSettings;
  readonly conntrack: Conntrack;
  readonly addresses: HostAddresses;
  /** Answers what the kernel refused, item by item; throws `kernel/refused` if nothing can be read there. */
  readonly applyContainerRoutes: (
    namespacePath: string,
    routes: ContainerRoutes,
  ) => readonly ApplyFailure[];
  /** How often rules that we had written were found gone: packets went by unjudged until they were back. */
  readonly losses: () => number;
}

/** Settings of single interfaces. */
export interface LinkSettings {
  /** Whether packets from and to 127.0.0.0/8 may pass; nothing if there is no such interface. Throws `kernel/refused`. */
  setRouteLocalnet(name: string, isOn: boolean): void;
}

/** The drivers of a kernel, and what managers see of them. */
export interface Drivers {
  readonly kernel: Kernel;
  /** In the order in which they take part in a phase. */
  readonly all: readonly Driver[];
  /** Transactions of tables since the start. */
  readonly tableTransactions: () => number;
  /** Rules that the kernel refused once may be taken now: they are tried in the next round. */
  readonly retryRefused: () => void;
}

/** Those of the network namespace that the sockets are in. */
export function openDrivers(options: {
  readonly sockets: KernelSockets;
  readonly runner: ToolRunner;
  readonly chosen: ChosenBackend;
  readonly families: readonly IpFamily[];
}): Drivers {
  const { sockets } = options;
  const { libc, rtnetlink, ipset } = sockets;
  const conntrack = conntrackOf(sockets);
  const sets = new AddressSets(ipset);
  const { runner, families } = options;
  const { backend } = options.chosen;
  const changes = firewallChanges({ backend, families, sockets });
  const firewall = new Firewall({ families, backend, runner, changes });
  const routes = new Routes(rtnetlink, staleConntrackFlusher(conntrack));
  const kernel: Kernel = {
    sets,
    rules: new IptablesRenderer(firewall.tables, sets),
    routes,
    links: { setRouteLocalnet: (name, isOn) => setRouteLocalnet(rtnetlink, name, isOn) },
    conntrack,
    addresses: hostAddressesOf(rtnetlink),
    applyContainerRoutes: (path, wanted) => applyContainerRoutes(libc, path, wanted),
    losses: () => firewall.losses,
  };
  const all = [
    setsInRounds(sets, firewall),
    firewall,
    routesInRounds(routes, (name) => findLink(rtnetlink, name)),
  ];
  return {
    kernel,
    all,
    tableTransactions: () => firewall.transactions,
    retryRefused: () => firewall.retryRefused(),
  };
}

/** The address sets as a driver. */
export function setsInRounds(sets: AddressSets, firewall: Pick<Firewall, 'retryRefused'>): Driver {
  return {
    resync: () => sets.resync(),
    apply: (phase: Phase) => {
      if (phase === 'additions') {
        const { recovered } = sets;
        sets.applyAdditions();
        // Rules that name a set were refused while it could not be made.
        if (sets.recovered > recovered) firewall.retryRefused();
      }
      if (phase === 'removals') sets.applyRemovals();
      return undefined;
    },
    poll: () => {
      const differs = sets.recheck();
      return differs || sets.hasDue;
    },
    failures: () => sets.failures(),
  };
}

/** The routes as a driver; `find` reads an interface of the host. */
export function routesInRounds(
  routes: Pick<
    Routes,
    'resync' | 'routeGone' | 'routeMade' | 'linkChanged' | 'apply' | 'hasDue' | 'failures'
  >,
  find: (name: string) => Link | undefined,
): Driver {
  return {
    resync: () => routes.resync(),
    onEvent: (event: HostEvent): boolean => {
      if (event.kind === 'routeGone') return routes.routeGone(event.route);
      if (event.kind === 'routeMade') return routes.routeMade(event.route, event.place);
      if (event.kind === 'link') {
        const { link, isGone } = event;
        routes.linkChanged(link.name, isGone ? undefined : link);
        return link.name.startsWith('cali') || link.name === 'lo';
      }
      if (event.kind !== 'linkMade') return false;
      // So that its routes need not wait for the kernel's notification.
      const link = find(event.name);
      if (link !== undefined) routes.linkChanged(event.name, link);
      return true;
    },
    apply: (phase: Phase) => {
      return phase === 'routes' ? routes.apply() : undefined;
    },
    poll: () => routes.hasDue,
    failures: () => routes.failures(),
  };
}
