import { AddressSets } from '../dataplane/address-sets.ts';
import {
  ForwardedQueries,
  openContainerDns,
  type AnswerDns,
  type ServedContainer,
} from '../dataplane/container-dns.ts';
import { conntrackOf, type Conntrack } from '../dataplane/conntrack.ts';
import {
  applyContainerRoutes,
  type ContainerRoutes,
} from '../dataplane/routes/container-routes.ts';
import { staleConntrackFlusher } from '../dataplane/stale-conntrack-flusher.ts';
import { dockerApiPorts } from '../dataplane/docker-api-ports.ts';
import { hostAddressesOf, type HostAddresses } from '../dataplane/host-addresses.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { ChosenBackend } from '../dataplane/iptables/backend.ts';
import type { KernelSockets } from '../dataplane/kernel-sockets.ts';
import { findLink, setRouteLocalnet, type Link } from '../dataplane/netlink/link.ts';
import { birdProtocol, listKernelRoutes, routeTables } from '../dataplane/netlink/route.ts';
import { savedHostRules, type SavedHostRules } from '../dataplane/host-rules-file.ts';
import type { ToolRunner } from '../dataplane/process.ts';
import { Links, linkCalls } from '../dataplane/tunnels/links.ts';
import { Neighbours, neighbourCalls } from '../dataplane/tunnels/neighbours.ts';
import { Routes } from '../dataplane/routes/routes.ts';
import type { IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';
import { IptablesRenderer } from '../render/iptables/renderer.ts';
import type { GuardedStages } from '../ruleset/host-endpoint.ts';
import type { DenyAction } from '../ruleset/drop-reasons.ts';
import type { Renderer } from '../ruleset/renderer.ts';
import { Firewall } from './firewall.ts';
import { firewallChanges } from './firewall-watch.ts';
import {
  linksInRounds,
  linksWithNeighbours,
  neighboursInRounds,
  ownLinks,
} from './link-drivers.ts';
import type { Driver, HostEvent, Phase } from './manager.ts';

/** This host's kernel as seen by managers: the calls of each driver that they may use. Tests replace it. */
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
    | 'applyAlone'
  >;
  readonly rules: Renderer;
  readonly routes: Pick<
    Routes,
    'setDesired' | 'deleteDesired' | 'setDesiredAddress' | 'deleteDesiredAddress' | 'has' | 'link'
  >;
  /** Tunnel interfaces, and the entries of neighbours and remote hosts on them. */
  readonly tunnels: Pick<Links, 'setDesired' | 'deleteDesired'>;
  readonly neighbours: Pick<Neighbours, 'setDesired' | 'deleteDesired'>;
  readonly links: LinkSettings;
  readonly conntrack: Conntrack;
  readonly addresses: HostAddresses;
  /** Returns the rules of host endpoints for the next boot; see `host-rules-file.ts`. */
  readonly savedHostRules: (stages: GuardedStages) => SavedHostRules;
  /** Returns the ports on which dockerd listens; see `dockerApiPorts`. */
  readonly dockerPorts: () => readonly number[];
  /** Returns the destinations of BIRD's routes in the main table. */
  readonly birdRoutes: () => readonly Cidr[];
  /** Returns the items that the kernel rejected; throws `kernel/refused` if the sandbox cannot be read. */
  readonly applyContainerRoutes: (
    namespacePath: string,
    routes: ContainerRoutes,
  ) => readonly ApplyFailure[];
  /** See `openContainerDns` in dataplane/container-dns.ts. */
  readonly openContainerDns: (
    namespacePath: string,
    answer: AnswerDns,
    onFlood: () => void,
  ) => ServedContainer | undefined;
  /** How often programmed rules were found missing: until they were restored, packets bypassed the policy. */
  readonly losses: () => number;
}

/** Settings of single interfaces. */
export interface LinkSettings {
  /**
   * Sets whether packets from and to 127.0.0.0/8 may pass; no-op if the interface does not exist. Throws
   * `kernel/refused`.
   */
  setRouteLocalnet(name: string, isOn: boolean): void;
}

/** The drivers of a kernel, and the interface that managers see. */
export interface Drivers {
  readonly kernel: Kernel;
  /** In the order of their calls in a phase. */
  readonly all: readonly Driver[];
  /** Table transactions since the start. */
  readonly tableTransactions: () => number;
  /** Retries rejected rules in the next round; the kernel may accept them now. */
  readonly retryRefused: () => void;
}

/** Creates the drivers for the network namespace of the sockets. */
export function openDrivers(options: {
  readonly sockets: KernelSockets;
  readonly runner: ToolRunner;
  readonly chosen: ChosenBackend;
  readonly families: readonly IpFamily[];
  /** Default: drop. */
  readonly denyAction?: DenyAction;
}): Drivers {
  const { sockets } = options;
  const { libc, rtnetlink, ipset } = sockets;
  const conntrack = conntrackOf(sockets);
  const sets = new AddressSets(ipset);
  const { runner, families } = options;
  const { backend } = options.chosen;
  const changes = firewallChanges({ backend, families, sockets });
  const firewall = new Firewall({ families, backend, runner, changes });
  const routes = new Routes(rtnetlink, staleConntrackFlusher(conntrack), undefined, ownLinks);
  const links = new Links(linkCalls(rtnetlink, sockets.libc), ownLinks);
  const neighbours = new Neighbours(neighbourCalls(rtnetlink), {
    names: linksWithNeighbours,
    indexOf: (name) => links.indexOf(name),
  });
  const forwarded = new ForwardedQueries();
  const renderer = new IptablesRenderer(firewall.tables, sets, options.denyAction);
  const kernel: Kernel = {
    sets,
    rules: renderer,
    routes,
    tunnels: links,
    neighbours,
    links: { setRouteLocalnet: (name, isOn) => setRouteLocalnet(rtnetlink, name, isOn) },
    conntrack,
    addresses: hostAddressesOf(rtnetlink),
    dockerPorts: () => dockerApiPorts(),
    savedHostRules: (stages) =>
      savedHostRules(
        options.chosen.backend,
        new Map(families.map((family) => [family, renderer.guardTables(family, stages)])),
        (name) => sets.content(name),
      ),
    birdRoutes: () =>
      families
        .flatMap((family) => listKernelRoutes(rtnetlink, family))
        .filter(({ protocol, table }) => protocol === birdProtocol && table === routeTables.main)
        .map(({ destination }) => destination),
    applyContainerRoutes: (path, wanted) => applyContainerRoutes(libc, path, wanted),
    openContainerDns: (namespacePath, answer, onFlood) =>
      openContainerDns({ libc, namespacePath, answer, onFlood, forwarded }),
    losses: () => firewall.losses,
  };
  const all = [
    setsInRounds(sets, firewall),
    firewall,
    // Before the routes through them.
    linksInRounds(links),
    neighboursInRounds(neighbours),
    routesInRounds(routes, (name) => findLink(rtnetlink, name)),
  ];
  return {
    kernel,
    all,
    tableTransactions: () => firewall.transactions,
    retryRefused: () => firewall.retryRefused(),
  };
}

/** Wraps the address sets as a driver. */
export function setsInRounds(sets: AddressSets, firewall: Pick<Firewall, 'retryRefused'>): Driver {
  return {
    resync: () => sets.resync(),
    apply: (phase: Phase) => {
      if (phase === 'additions') {
        const { recovered } = sets;
        sets.applyAdditions();
        // Rules that name a set were rejected while the set could not be created.
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

/** Wraps the routes as a driver; `find` reads an interface of the host. */
export function routesInRounds(
  routes: Pick<
    Routes,
    | 'resync'
    | 'routeGone'
    | 'routeMade'
    | 'addressGone'
    | 'linkChanged'
    | 'apply'
    | 'hasDue'
    | 'failures'
  >,
  find: (name: string) => Link | undefined,
): Driver {
  return {
    resync: () => routes.resync(),
    onEvent: (event: HostEvent): boolean => {
      if (event.kind === 'routeGone') return routes.routeGone(event.route);
      if (event.kind === 'routeMade') return routes.routeMade(event.route, event.place);
      if (event.kind === 'address') return event.isGone && routes.addressGone(event.address);
      if (event.kind === 'link') {
        const { link, isGone } = event;
        const isUsed = routes.linkChanged(link.name, isGone ? undefined : link);
        return isUsed || link.name.startsWith('cali') || link.name === 'lo';
      }
      if (event.kind !== 'linkMade') return false;
      // Its routes need not wait for the kernel's notification.
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
