import { FakeSets } from '../dataplane/address-sets.fixture.ts';
import { AddressSets } from '../dataplane/address-sets.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { Flow } from '../dataplane/conntrack.ts';
import type { AnswerDns } from '../dataplane/container-dns.ts';
import type { HostInterface } from '../dataplane/host-addresses.ts';
import type { ContainerRoutes } from '../dataplane/routes/container-routes.ts';
import { Links } from '../dataplane/tunnels/links.ts';
import { Neighbours } from '../dataplane/tunnels/neighbours.ts';
import type { Link } from '../dataplane/netlink/link.ts';
import { FakeTunnels } from '../dataplane/tunnels/tunnel-calls.fixture.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { parseNet, splitCidr, type Cidr } from '../ip/cidr.ts';
import { IptablesRenderer, type Tables } from '../render/iptables/renderer.ts';
import {
  linksInRounds,
  linksWithNeighbours,
  neighboursInRounds,
  ownLinks,
} from './link-drivers.ts';
import { setsInRounds, type Drivers, type Kernel } from './kernel.ts';
import type { Driver, HostEvent, Phase } from './manager.ts';

/**
 * A kernel in memory: stores what was written in the right phase, in the order of `journal`, and rejects the items in
 * `refuses`. Address sets, tunnel
 * interfaces and neighbours use the real drivers.
 */
export class FakeKernel implements Drivers {
  readonly journal: string[] = [];
  readonly ipset = new FakeSets();
  readonly sets = new AddressSets(this.ipset);
  /** Programmed chains, by `<family> <table> <name>`; the rules as text. */
  readonly chains = new Map<string, string>();
  readonly hooks = new Set<string>();
  /** The interface of each route, by `<kind> <destination>`. */
  readonly routes = new Map<string, string>();
  /** `<interface> <address>`. */
  readonly linkAddresses = new Set<string>();
  readonly links = new Map<string, Link>();
  readonly tunnels = new FakeTunnels();
  /** The interfaces that have addresses of the host. */
  readonly uplinks = new Map<IpAddress, Link>();
  interfaces: readonly HostInterface[] = [{ name: 'lo', addresses: [] }];
  readonly routeLocalnet = new Map<string, boolean>();
  readonly containerRoutes = new Map<string, ContainerRoutes>();
  /** The response to DNS queries of each container that is served. */
  readonly containerDns = new Map<string, AnswerDns>();
  flows: Flow[] = [];
  hostAddresses: readonly Cidr[] = [parseNet('127.0.0.0/8'), parseNet('192.0.2.1/32')];
  /** Items to reject: `phase tables`, `poll`, `route 10.0.0.1/32`, `flows`, `route_localnet cali1`, a network namespace. */
  readonly refuses = new Set<string>();
  lost = 0;
  readonly events: HostEvent[] = [];
  /** Completed rounds. */
  rounds = 0;
  /** The return value for the next event. */
  nextEventFails = false;
  /** Another program has changed tables during a round. */
  tablesWereChanged = false;
  /** The states of the polls so far. */
  readonly polls: boolean[] = [];
  readonly kernel: Kernel;
  readonly all: readonly Driver[];
  readonly #pending: { readonly phase: Phase; readonly write: () => void }[] = [];

  constructor(families: readonly IpFamily[] = [4, 6]) {
    this.ipset.onChange = (what) => this.journal.push(what);
    const soon = (phase: Phase, what: string, write: () => void) =>
      this.#pending.push({
        phase,
        write: () => {
          this.journal.push(what);
          write();
        },
      });
    const tables = (family: IpFamily): Tables => ({
      setChain: (table, { name, rules }) => {
        const key = `${family} ${table} ${name}`;
        soon('tables', `chain ${key}`, () => this.chains.set(key, JSON.stringify(rules)));
      },
      removeChain: (table, name) => {
        const key = `${family} ${table} ${name}`;
        soon('tables', `no chain ${key}`, () => this.chains.delete(key));
      },
      setHook: (table, { chain }) => {
        const key = `${family} ${table} ${chain}`;
        soon('tables', `hook ${key}`, () => this.hooks.add(key));
      },
    });
    const tunnels = new Links(this.tunnels, ownLinks);
    const neighbours = new Neighbours(this.tunnels.neighbours, {
      names: linksWithNeighbours,
      indexOf: (name) => tunnels.indexOf(name),
    });
    this.kernel = {
      dockerPorts: () => [],
      savedHostRules: () => ({ backend: 'nft', sets: [], scripts: [] }),
      birdRoutes: () => [],
      sets: this.sets,
      rules: new IptablesRenderer(
        new Map(families.map((family) => [family, tables(family)])),
        this.sets,
      ),
      routes: {
        setDesired: (route) => {
          const key = `${route.kind} ${route.destination}`;
          const via = route.kind === 'block' ? route.via?.interface : undefined;
          const by = route.kind === 'endpoint' ? route.interface : (via ?? 'lo');
          soon('routes', `route ${key}`, () => {
            if (!this.refuses.has(`route ${route.destination}`)) this.routes.set(key, by);
          });
        },
        deleteDesired: ({ kind, destination }) =>
          soon('routes', `no route ${kind} ${destination}`, () =>
            this.routes.delete(`${kind} ${destination}`),
          ),
        setDesiredAddress: ({ interface: name, address }) =>
          soon('routes', `address ${name} ${address}`, () =>
            this.linkAddresses.add(`${name} ${address}`),
          ),
        deleteDesiredAddress: ({ interface: name, address }) =>
          soon('routes', `no address ${name} ${address}`, () =>
            this.linkAddresses.delete(`${name} ${address}`),
          ),
        has: (destination, name) => this.routes.get(`endpoint ${destination}`) === name,
        link: (name) => this.links.get(name),
      },
      tunnels,
      neighbours,
      links: {
        setRouteLocalnet: (name, isOn) => {
          if (this.refuses.has(`route_localnet ${name}`)) throw new Error('refused');
          this.journal.push(`route_localnet ${name} ${isOn}`);
          this.routeLocalnet.set(name, isOn);
        },
      },
      conntrack: {
        flush: (ofFamilies, isToEnd) =>
          this.#end((flow) => ofFamilies.includes(flow.family) && isToEnd(flow)),
        flushOf: async (addresses) => {
          this.#end(({ source, answerer }) => addresses.has(source) || addresses.has(answerer));
          return addresses;
        },
      },
      addresses: {
        ofInterfaces: () => new Set(this.hostAddresses.map((one) => splitCidr(one).address)),
        answeredFor: () => this.hostAddresses,
        byInterface: () => this.interfaces,
        linkOf: (address) => this.uplinks.get(address),
      },
      applyContainerRoutes: (path, routes) => {
        if (this.refuses.has(path)) throw new Error(`no namespace ${path}`);
        this.containerRoutes.set(path, routes);
        return [];
      },
      openContainerDns: (path, answer) => {
        if (this.refuses.has(path)) throw new Error(`no namespace ${path}`);
        this.containerDns.set(path, answer);
        return {
          isCurrent: () => true,
          close: () => void this.containerDns.delete(path),
          endRedirect: async () => undefined,
        };
      },
      losses: () => this.lost,
    };
    this.all = [
      setsInRounds(this.sets, { retryRefused: () => this.journal.push('retry refused chains') }),
      {
        resync: () => this.journal.push('resync'),
        onEvent: (event) => {
          if (this.nextEventFails) {
            this.nextEventFails = false;
            throw new Error(`cannot take ${event.kind}`);
          }
          this.events.push(event);
          if (event.kind === 'nftables') {
            const wereChanged = this.tablesWereChanged;
            this.tablesWereChanged = false;
            return wereChanged;
          }
          return event.kind === 'routeGone' || event.kind === 'linkMade';
        },
        apply: async (phase) => {
          if (this.refuses.has(`phase ${phase}`)) throw new Error(`${phase} failed`);
          if (phase === 'tables') this.#write(phase);
        },
        poll: ({ isInSync }) => {
          this.polls.push(isInSync);
          if (this.refuses.has('poll')) throw new Error('poll failed');
          return false;
        },
        failures: () => [],
      },
      linksInRounds(tunnels),
      neighboursInRounds(neighbours),
      {
        apply: (phase) => {
          if (phase === 'routes') this.#write(phase);
          return undefined;
        },
        failures: () => {
          this.rounds++;
          return [...this.refuses].flatMap(routeFailure);
        },
      },
    ];
  }

  tableTransactions = () => this.journal.filter((what) => / chain | hook /.test(` ${what}`)).length;

  retryRefused = (): void => void this.journal.push('retry refused chains');

  /** Returns the actual members of a set. */
  members(set: string): readonly string[] {
    return [...(this.ipset.sets.get(set)?.members ?? [])].toSorted();
  }

  #write(phase: Phase): void {
    const now = this.#pending.filter((one) => one.phase === phase);
    const later = this.#pending.filter((one) => one.phase !== phase);
    this.#pending.splice(0, Infinity, ...later);
    for (const { write } of now) write();
  }

  #end(isToEnd: (flow: Flow) => boolean): number {
    if (this.refuses.has('flows')) throw new Error('flows cannot be listed');
    const left = this.flows.filter((flow) => !isToEnd(flow));
    const ended = this.flows.length - left.length;
    this.flows = left;
    return ended;
  }
}

function routeFailure(refused: string): readonly ApplyFailure[] {
  const net = /^route (\S+)$/.exec(refused)?.[1];
  return net === undefined ? [] : [{ what: refused, why: 'EINVAL', net: parseNet(net) }];
}
