import type { IpAddress, IpFamily } from '../ip/address.ts';
import { cidrFamily, type Cidr } from '../ip/cidr.ts';
import { describe } from '../errors/error.ts';
import { DeltaTracker } from './delta-tracker.ts';
import { addHostAddress, listAddresses } from './netlink/address.ts';
import { listLinks, type Link } from './netlink/link.ts';
import {
  deleteRoute,
  listRoutes,
  ourProtocol,
  replaceRoute,
  routeTables,
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

/**
 * The routes and link addresses of this host that are ours (protocol 80). A route whose interface is missing
 * waits for it.
 */
export class Routes {
  readonly #socket: NetlinkSocket;
  readonly #wanted = new Map<Cidr, WantedRoute>();
  readonly #addresses = new Map<string, WantedAddress>();
  readonly #delta = new DeltaTracker<string, Route>(isSameRoute);
  readonly #links = new Map<string, Link>();
  readonly #hasAddress = new Set<string>();
  readonly #changed = new Set<Cidr>();

  constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  want(route: WantedRoute): void {
    this.#wanted.set(route.destination, route);
    this.#changed.add(route.destination);
  }

  unwant(destination: Cidr): void {
    this.#wanted.delete(destination);
    this.#changed.add(destination);
  }

  wantAddress(address: WantedAddress): void {
    this.#addresses.set(addressKey(address), address);
  }

  unwantAddress(address: WantedAddress): void {
    this.#addresses.delete(addressKey(address));
    this.#hasAddress.delete(addressKey(address));
  }

  /** The interface as the kernel now has it; `undefined`: it is gone. */
  linkChanged(name: string, link: Link | undefined): void {
    const before = this.#links.get(name);
    if (link === undefined) this.#links.delete(name);
    else this.#links.set(name, link);
    if (before?.index === link?.index && before?.isUp === link?.isUp) return;
    for (const route of this.#wanted.values()) {
      if (route.kind === 'endpoint' && route.interface === name) {
        this.#changed.add(route.destination);
      }
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
    this.#delta.deleteActual(key);
    return true;
  }

  link(name: string): Link | undefined {
    return this.#links.get(name);
  }

  get links(): ReadonlyMap<string, Link> {
    return this.#links;
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
    this.#delta.replaceActual(routes.map((route) => [routeKey(route), route] as const));
    for (const destination of this.#wanted.keys()) this.#changed.add(destination);
  }

  /** Writes what differs; what the kernel refuses is answered and tried again the next time. */
  apply(): readonly { readonly destination: Cidr; readonly why: string }[] {
    this.#planChanged();
    this.#addAddresses();
    const failed: { destination: Cidr; why: string }[] = [];
    for (const [key, route] of this.#delta.removals()) {
      deleteRoute(this.#socket, route);
      this.#delta.deleteActual(key);
    }
    for (const [key, route] of this.#delta.updates()) {
      try {
        replaceRoute(this.#socket, route);
        this.#delta.setActual(key, route);
      } catch (error) {
        failed.push({ destination: route.destination, why: describe(error) });
      }
    }
    return failed;
  }

  /** Whether the kernel has the route to an endpoint, by the right interface. */
  has(destination: Cidr): boolean {
    const route = this.#planned(destination);
    if (route === undefined) return false;
    const actual = this.#delta.actual.get(routeKey(route));
    return actual !== undefined && isSameRoute(actual, route);
  }

  #planChanged(): void {
    for (const destination of this.#changed) {
      const route = this.#planned(destination);
      for (const table of [routeTables.main, routeTables.local]) {
        if (route?.table !== table) this.#delta.deleteDesired(`${table} ${destination}`);
      }
      if (route !== undefined) this.#delta.setDesired(routeKey(route), route);
    }
    this.#changed.clear();
  }

  #planned(destination: Cidr): Route | undefined {
    const wanted = this.#wanted.get(destination);
    if (wanted === undefined) return undefined;
    const isEndpoint = wanted.kind === 'endpoint';
    const link = this.#links.get(isEndpoint ? wanted.interface : 'lo');
    if (link === undefined || !link.isUp) return undefined;
    return {
      destination,
      linkIndex: link.index,
      ...(isEndpoint
        ? { table: routeTables.main, type: 'unicast', scope: scopeOf(destination, 'link') }
        : { table: routeTables.local, type: 'local', scope: scopeOf(destination, 'host') }),
    };
  }

  #addAddresses(): void {
    for (const [key, wanted] of this.#addresses) {
      const link = this.#links.get(wanted.interface);
      if (link === undefined || this.#hasAddress.has(key)) continue;
      try {
        addHostAddress(this.#socket, { linkIndex: link.index, address: wanted.address });
        this.#hasAddress.add(key);
      } catch (error) {
        // IPv6 is off on this host or interface; the endpoint's state says so by its missing route.
        if (!isRefusal(error, 'EACCES', 'EPERM', 'ENODEV', 'EOPNOTSUPP', 'EINVAL')) throw error;
      }
    }
  }

  /** The kernel dropped them with the interface. */
  #forgetRoutesOf(linkIndex: number): void {
    for (const [key, route] of this.#delta.actual) {
      if (route.linkIndex === linkIndex) this.#delta.deleteActual(key);
    }
  }
}

/** IPv6 routes have no scope of their own; the kernel lists them as global. */
function scopeOf<Scope extends Route['scope']>(destination: Cidr, scope: Scope): Scope | 'global' {
  return cidrFamily(destination) === 4 ? scope : 'global';
}

function routeKey({ table, destination }: Route): string {
  return `${table} ${destination}`;
}

function addressKey({ interface: name, address }: WantedAddress): string {
  return `${name} ${address}`;
}

function isSameRoute(a: Route, b: Route): boolean {
  return a.type === b.type && a.scope === b.scope && a.linkIndex === b.linkIndex;
}
