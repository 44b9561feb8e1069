import type { IpAddress, IpFamily } from '../ip/address.ts';
import { cidrFamily, hostCidr, type Cidr } from '../ip/cidr.ts';
import { Refusals, type ApplyFailure } from './apply-failure.ts';
import { DeltaTracker } from './delta-tracker.ts';
import { LostPlaces } from './lost-places.ts';
import { addHostAddress, listAddresses, removeHostAddress } from './netlink/address.ts';
import { listLinks, type Link } from './netlink/link.ts';
import {
  deleteRoute,
  listRoutes,
  makeRoute,
  ourProtocol,
  replaceRoute,
  routeTables,
  type ReplacingRoute,
  type Route,
} from './netlink/route.ts';
import { isRefusal, type NetlinkSocket } from './netlink/socket.ts';

/** A route that is wanted; the interface by name, as it may not be there yet. */
export type WantedRoute =
  /** To one container, by the host's end of its veth. */
  | { readonly kind: 'endpoint'; readonly destination: Cidr; readonly interface: string }
  /** An address that this host answers for on all its links, without having it on one. */
  | { readonly kind: 'local'; readonly destination: Cidr };

/** A next hop of a network on the host's end of a veth; IPv6 finds neighbours only by addresses of the link. */
export interface WantedAddress {
  readonly interface: string;
  readonly address: IpAddress;
}

const families: readonly IpFamily[] = [4, 6];

/** A route that is to be written, with its key. */
type DueRoute = readonly [key: string, route: Route];

/** What a wanted route is known by. */
export type RouteTarget = Pick<WantedRoute, 'kind' | 'destination'>;

/**
 * The routes and link addresses of this host that are ours (protocol 80). A route whose interface is missing
 * waits for it; one that the kernel refuses, or whose place a route of somebody else has, is told by `failures`
 * and tried again later. Before the first route leads to an endpoint, its destination is handed over: what the
 * former owner of the address began must not come to the new one, nor wait for it in the queue of a neighbour.
 */
export class Routes {
  readonly #socket: NetlinkSocket;
  readonly #handOver: (destinations: readonly Cidr[]) => void;
  /** The interfaces that routes were handed over to, by route. */
  readonly #owners = new Map<string, string>();
  readonly #wanted = new Map<string, WantedRoute>();
  readonly #addresses = new Map<string, WantedAddress>();
  /** Those that we gave and that are wanted no more. */
  readonly #goneAddresses = new Map<string, WantedAddress>();
  readonly #delta = new DeltaTracker<string, Route>(isSameRoute);
  readonly #links = new Map<string, Link>();
  readonly #hasAddress = new Set<string>();
  readonly #changed = new Set<string>();
  /** By route or address, and what of routes cannot be removed. */
  readonly #refused = new Refusals<string>();
  readonly #kept = new Refusals<string>();
  readonly #lost = new LostPlaces();

  constructor(socket: NetlinkSocket, handOver: (destinations: readonly Cidr[]) => void) {
    this.#socket = socket;
    this.#handOver = handOver;
  }

  want(route: WantedRoute): void {
    const key = targetKey(route);
    this.#wanted.set(key, route);
    this.#changed.add(key);
  }

  unwant(target: RouteTarget): void {
    const key = targetKey(target);
    this.#wanted.delete(key);
    this.#owners.delete(key);
    this.#refused.delete(key);
    this.#lost.delete(key);
    this.#changed.add(key);
  }

  wantAddress(address: WantedAddress): void {
    this.#addresses.set(addressKey(address), address);
    this.#goneAddresses.delete(addressKey(address));
  }

  unwantAddress(address: WantedAddress): void {
    const key = addressKey(address);
    this.#addresses.delete(key);
    this.#refused.delete(key);
    if (this.#hasAddress.delete(key)) this.#goneAddresses.set(key, address);
  }

  /** The interface as the kernel now has it; `undefined`: it is gone. */
  linkChanged(name: string, link: Link | undefined): void {
    const before = this.#links.get(name);
    if (link === undefined) this.#links.delete(name);
    else this.#links.set(name, link);
    if (before?.index === link?.index && before?.isUp === link?.isUp) return;
    for (const [key, route] of this.#wanted) {
      if (route.kind === 'endpoint' && route.interface === name) this.#changed.add(key);
    }
    for (const key of this.#hasAddress)
      if (key.startsWith(`${name} `)) this.#hasAddress.delete(key);
    if (before !== undefined) this.#forgetRoutesOf(before.index);
  }

  /** The kernel tells that a route of ours is gone; answers whether that was not by us. */
  routeGone(route: Route): boolean {
    const key = routeKey(route);
    const actual = this.#delta.actual.get(key);
    if (actual === undefined || !isSameRoute(actual, route)) return false;
    this.#loseRoute(key);
    return true;
  }

  /** The kernel tells that a route stands in the place of another; answers whether that was one of ours. */
  routeReplaced({ destination, table, metric, own }: ReplacingRoute): boolean {
    const key = routeKey({ destination, table });
    const actual = this.#delta.actual.get(key);
    if (!this.#wanted.has(key) || metric !== metricOf({ destination })) return false;
    if (own === undefined) {
      this.#loseRoute(key);
      return actual !== undefined;
    }
    // What we wrote ourselves is told as well, in the order in which it was written.
    if (actual !== undefined && isSameRoute(actual, own)) return false;
    this.#delta.setActual(key, own);
    return true;
  }

  #loseRoute(key: string): void {
    this.#delta.deleteActual(key);
    if (this.#wanted.has(key)) this.#lost.add(key);
  }

  link(name: string): Link | undefined {
    return this.#links.get(name);
  }

  /** Reads links, addresses and our routes from the kernel. */
  resync(): void {
    this.#links.clear();
    for (const link of listLinks(this.#socket)) this.#links.set(link.name, link);
    const nameOf = new Map([...this.#links.values()].map(({ index, name }) => [index, name]));
    this.#hasAddress.clear();
    for (const { linkIndex, address } of listAddresses(this.#socket)) {
      const name = nameOf.get(linkIndex);
      if (name !== undefined) this.#hasAddress.add(addressKey({ interface: name, address }));
    }
    const routes = families.flatMap((family) =>
      listRoutes(this.#socket, { family, protocol: ourProtocol }),
    );
    const before = [...this.#delta.actual.keys()];
    this.#delta.replaceActual(routes.map((route) => [routeKey(route), route] as const));
    for (const key of before) if (!this.#delta.actual.has(key)) this.#loseRoute(key);
    for (const key of this.#wanted.keys()) this.#changed.add(key);
  }

  /** Writes what differs, but for what was refused a moment ago. */
  apply(): void {
    this.#planChanged();
    this.#addAddresses();
    this.#removeAddresses();
    for (const [key, route] of this.#delta.removals()) {
      if (!this.#kept.isDue(key)) continue;
      const about = { what: `removal of the route to ${route.destination}` };
      this.#try(this.#kept, key, { ...about, net: route.destination }, () => {
        deleteRoute(this.#socket, route);
        this.#delta.deleteActual(key);
      });
    }
    const due = this.#delta.updates().filter(([key]) => this.#refused.isDue(key));
    const isToBeHandedOver = ([key]: DueRoute) => this.#ownerOf(key) !== this.#owners.get(key);
    const handedOver = this.#handOverAll(due.filter(isToBeHandedOver));
    for (const [key, route] of due) {
      if (isToBeHandedOver([key, route]) && !handedOver.has(key)) continue;
      if (this.#write(key, route)) this.#setOwner(key);
    }
  }

  /** What the kernel does not hold as wanted, as it was when it was tried last. */
  failures(): readonly ApplyFailure[] {
    return [...this.#refused.failures(), ...this.#kept.failures()];
  }

  /** Whether something that was refused is to be tried again now. */
  get hasDue(): boolean {
    return this.#refused.hasDue || this.#kept.hasDue;
  }

  /** Whether the kernel has the route to an endpoint, by its interface. */
  has(destination: Cidr, interfaceName: string): boolean {
    const route = this.#planned(targetKey({ kind: 'endpoint', destination }));
    if (route === undefined || route.linkIndex !== this.#links.get(interfaceName)?.index) {
      return false;
    }
    const actual = this.#delta.actual.get(routeKey(route));
    return actual !== undefined && isSameRoute(actual, route);
  }

  #try(
    refusals: Refusals<string>,
    key: string,
    about: Omit<ApplyFailure, 'why'>,
    change: () => void,
  ): boolean {
    try {
      change();
      refusals.delete(key);
      return true;
    } catch (error) {
      refusals.add(key, about, error);
      return false;
    }
  }

  /** Whether the kernel took it. */
  #write(key: string, route: Route): boolean {
    return this.#try(this.#refused, key, routeAbout(route), () => {
      if (this.#delta.actual.has(key)) replaceRoute(this.#socket, route);
      else this.#make(route);
      this.#delta.setActual(key, route);
      this.#lost.isBack(key);
    });
  }

  /**
   * Hands routes over to their new owners; answers which. Meanwhile nothing is routed to their destinations: a packet
   * that left by another way, such as the default route, would begin a connection that no policy of the new owner was
   * asked about.
   */
  #handOverAll(routes: readonly DueRoute[]): ReadonlySet<string> {
    const held = routes.filter(([key, { destination, table }]) =>
      this.#write(key, { destination, table, type: 'blackhole', scope: 'global' }),
    );
    if (held.length === 0) return new Set();
    try {
      this.#handOver(held.map(([, { destination }]) => destination));
    } catch (error) {
      for (const [key, route] of held) this.#refused.add(key, routeAbout(route), error);
      return new Set();
    }
    return new Set(held.map(([key]) => key));
  }

  #ownerOf(key: string): string | undefined {
    const wanted = this.#wanted.get(key);
    return wanted?.kind === 'endpoint' ? wanted.interface : undefined;
  }

  #setOwner(key: string): void {
    const owner = this.#ownerOf(key);
    if (owner !== undefined) this.#owners.set(key, owner);
  }

  /**
   * Makes a route that is not there as far as we know. One that is there all the same is replaced if it is ours, stands
   * where ours was, or leads to a container, as those of older plugins do. Any other is not ours to change.
   */
  #make(route: Route): void {
    try {
      makeRoute(this.#socket, route);
    } catch (error) {
      if (!isRefusal(error, 'EEXIST')) throw error;
      const all = listRoutes(this.#socket, { family: cidrFamily(route.destination) });
      const rivals = all.filter(
        (one) => routeKey(one) === routeKey(route) && (one.metric ?? 0) === metricOf(route),
      );
      const nameOf = new Map([...this.#links.values()].map(({ index, name }) => [index, name]));
      const mayReplace =
        this.#lost.mayTakeBack(routeKey(route)) ||
        rivals.some(
          ({ protocol, linkIndex }) =>
            protocol === ourProtocol || nameOf.get(linkIndex ?? 0)?.startsWith('cali') === true,
        );
      if (mayReplace) {
        replaceRoute(this.#socket, route);
      } else if (route.type !== 'local' || rivals[0]?.type !== 'local') {
        // One of a type that we never make, such as that of a broadcast address, is not among those listed.
        const name = nameOf.get(rivals[0]?.linkIndex ?? 0);
        const by = name === undefined ? '' : ` by ${name}`;
        throw new Error(`this host has another route there${by}`, { cause: error });
      }
      // Else the host has the address itself, and so answers for it.
    }
  }

  #planChanged(): void {
    for (const key of this.#changed) {
      const route = this.#planned(key);
      if (route === undefined) this.#delta.deleteDesired(key);
      else this.#delta.setDesired(key, route);
      if (route === undefined) this.#refused.delete(key);
      const actual = this.#delta.actual.get(key);
      // A daemon that starts again finds the routes to those who run.
      if (route !== undefined && actual !== undefined && isSameRoute(actual, route)) {
        this.#setOwner(key);
      }
    }
    this.#changed.clear();
  }

  #planned(key: string): Route | undefined {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return undefined;
    const { destination } = wanted;
    const isEndpoint = wanted.kind === 'endpoint';
    const link = this.#links.get(isEndpoint ? wanted.interface : 'lo');
    if (link === undefined || !link.isUp) return undefined;
    return {
      destination,
      table: tableOf(wanted),
      linkIndex: link.index,
      ...(isEndpoint
        ? { type: 'unicast', scope: scopeOf(destination, 'link') }
        : { type: 'local', scope: scopeOf(destination, 'host') }),
    };
  }

  #addAddresses(): void {
    for (const [key, wanted] of this.#addresses) {
      const link = this.#links.get(wanted.interface);
      if (link === undefined || this.#hasAddress.has(key) || !this.#refused.isDue(key)) continue;
      const { address } = wanted;
      const what = `next hop ${address} on ${wanted.interface}`;
      this.#try(this.#refused, key, { what, net: hostCidr(address) }, () => {
        try {
          addHostAddress(this.#socket, { linkIndex: link.index, address });
          this.#hasAddress.add(key);
        } catch (error) {
          // IPv6 is off on this host or interface; the endpoint's state says so by its missing route.
          if (!isRefusal(error, 'EACCES', 'EPERM', 'ENODEV', 'EOPNOTSUPP', 'EINVAL')) throw error;
        }
      });
    }
  }

  #removeAddresses(): void {
    for (const [key, { interface: name, address }] of this.#goneAddresses) {
      const link = this.#links.get(name);
      if (link === undefined) this.#goneAddresses.delete(key);
      if (link === undefined || !this.#kept.isDue(key)) continue;
      const what = `removal of the next hop ${address} from ${name}`;
      this.#try(this.#kept, key, { what, net: hostCidr(address) }, () => {
        removeHostAddress(this.#socket, { linkIndex: link.index, address });
        this.#goneAddresses.delete(key);
      });
    }
  }

  /** The kernel dropped them with the interface. */
  #forgetRoutesOf(linkIndex: number): void {
    for (const [key, route] of this.#delta.actual) {
      if (route.linkIndex === linkIndex) this.#delta.deleteActual(key);
    }
  }
}

function routeAbout({ destination }: Route): Omit<ApplyFailure, 'why'> {
  return { what: `route to ${destination}`, net: destination };
}

/** IPv6 routes have no scope of their own; the kernel lists them as global. */
function scopeOf<Scope extends Route['scope']>(destination: Cidr, scope: Scope): Scope | 'global' {
  return cidrFamily(destination) === 4 ? scope : 'global';
}

function tableOf({ kind }: RouteTarget): number {
  return kind === 'endpoint' ? routeTables.main : routeTables.local;
}

/** The same as the key of its route. */
function targetKey(target: RouteTarget): string {
  return `${tableOf(target)} ${target.destination}`;
}

/** Of our own routes, which have no metric. */
function routeKey({ table, destination }: Pick<Route, 'table' | 'destination'>): string {
  return `${table} ${destination}`;
}

/** What the kernel gives to a route that names none. */
function metricOf({ destination }: Pick<Route, 'destination'>): number {
  return cidrFamily(destination) === 4 ? 0 : 1024;
}

function addressKey({ interface: name, address }: WantedAddress): string {
  return `${name} ${address}`;
}

function isSameRoute(a: Route, b: Route): boolean {
  return (['type', 'scope', 'linkIndex', 'gateway'] as const).every((part) => a[part] === b[part]);
}
