import { familyOf, type IpFamily } from '../../ip/address.ts';
import { cidrFamily, type Cidr } from '../../ip/cidr.ts';
import { Refusals, type ApplyFailure } from '../apply-failure.ts';
import { DeltaTracker } from '../delta-tracker.ts';
import { LinkAddresses, type DesiredAddress } from '../link-addresses.ts';
import { ReplaceBackoff } from './replace-backoff.ts';
import type { InterfaceAddress } from '../netlink/address.ts';
import { listLinks, type Link } from '../netlink/link.ts';
import type { RoutePlace } from '../netlink/monitor.ts';
import {
  deleteRoute,
  listKernelRoutes,
  placeOf,
  prependRoute,
  type KernelRoute,
  type Route,
} from '../netlink/route.ts';
import { isRefusal, type NetlinkSocket } from '../netlink/socket.ts';
import {
  routeClasses,
  type RouteClass,
  type RouteKind,
  type DesiredRoute,
} from './route-classes.ts';
import {
  comesBefore,
  metricOf,
  ConflictingRoutes,
  type ListedRoute,
} from './conflicting-routes.ts';
import type { OwnLinks } from '../tunnels/links.ts';
import { DesiredRoutes, type RouteTarget } from './desired-routes.ts';
import { RouteWriter } from './route-writer.ts';

export type { DesiredAddress } from '../link-addresses.ts';
export type { DesiredRoute } from './route-classes.ts';
export type { RouteTarget } from './desired-routes.ts';

const families: readonly IpFamily[] = [4, 6];

/** Flushes the connections of the previous owners of addresses; no route points to the addresses until it is done. */
export type HandOver = (destinations: readonly Cidr[]) => Promise<void>;

/**
 * Our routes on this host, of all classes (`route-classes.ts`), and the link addresses that they need. A route whose
 * interface is missing waits for it. A route that the kernel refuses, or that conflicts with a route of another
 * program, is reported by `failures` and retried later. Routes of other programs are never removed or changed, unless
 * they replaced ours.
 *
 * Before the first route points to an endpoint, its destination is handed over: packets of connections of the previous
 * owner must not reach the new one, nor wait for it in a neighbour queue. Meanwhile, and until the interface exists, a
 * blackhole blocks the destination: a packet sent another way, such as by the default route, would start a connection
 * that bypasses the policy of the new owner.
 */
export class Routes {
  readonly #socket: NetlinkSocket;
  readonly #handOver: HandOver;
  /** The interfaces that destinations were handed over to, by place. */
  readonly #owners = new Map<string, string>();
  /** Places that are blocked until they are handed over. */
  readonly #held = new Set<string>();
  /** By place (table and destination), like all fields below. */
  readonly #desired: DesiredRoutes;
  readonly #delta = new DeltaTracker<string, Route>(isSameRoute);
  readonly #addresses: LinkAddresses;
  readonly #changed = new Set<string>();
  /** Refused routes, by place; and routes that cannot be removed. */
  readonly #refused = new Refusals<string>();
  readonly #kept = new Refusals<string>();
  readonly #backoff = new ReplaceBackoff();
  readonly #conflicts = new ConflictingRoutes();
  readonly #writer: RouteWriter;
  /** Routes that we removed in order to recreate them: the kernel will report the removal. */
  readonly #removing = new Set<string>();

  constructor(
    socket: NetlinkSocket,
    handOver: HandOver,
    classes: Readonly<Record<RouteKind, RouteClass>> = routeClasses,
    tunnels?: OwnLinks,
  ) {
    this.#socket = socket;
    this.#handOver = handOver;
    this.#desired = new DesiredRoutes(classes, tunnels);
    this.#addresses = new LinkAddresses(socket, this.#desired.links);
    this.#writer = new RouteWriter(socket, this.#desired, this.#backoff);
  }

  setDesired(route: DesiredRoute): void {
    this.#changed.add(this.#desired.setDesired(route));
  }

  deleteDesired(target: RouteTarget): void {
    const key = this.#desired.deleteDesired(target);
    this.#changed.add(key);
    this.#refused.delete(key);
    if (this.#desired.newOwner(key) === undefined) this.#owners.delete(key);
    if (this.#desired.has(key)) return;
    this.#backoff.delete(key);
    this.#conflicts.delete(key);
  }

  setDesiredAddress(address: DesiredAddress): void {
    this.#addresses.setDesired(address);
  }

  deleteDesiredAddress(address: DesiredAddress): void {
    this.#addresses.deleteDesired(address);
  }

  /**
   * Sets an interface as the kernel has it now; `undefined`: it was removed. Returns whether there may be something to
   * write.
   */
  linkChanged(name: string, link: Link | undefined): boolean {
    const before = this.link(name);
    this.#desired.setLink(name, link);
    if (before?.index === link?.index && before?.isUp === link?.isUp) return false;
    const affected = [...this.#desired.by(name)];
    for (const key of affected) this.#changed.add(key);
    this.#addresses.linkChanged(name);
    if (before !== undefined) this.#forgetRoutesOf(before.index);
    return affected.length > 0;
  }

  /**
   * Handles an address that was removed from an interface. With it the kernel may have removed IPv4 routes without a
   * notification (fib_sync_down_addr; fib_disable_ip after the last address). Returns whether there may be something to
   * write. Throws `kernel/refused`.
   */
  addressGone({ linkIndex, address }: InterfaceAddress): boolean {
    const name = this.#desired.nameOf(linkIndex);
    if (name === undefined) return false;
    const wasOurs = this.#addresses.gone({ interface: name, address });
    if (familyOf(address) !== 4) return wasOurs;
    const through = [...this.#delta.actual].filter(
      ([, route]) => route.linkIndex === linkIndex && cidrFamily(route.destination) === 4,
    );
    if (through.length === 0) return wasOurs;
    const present = new Set(
      listKernelRoutes(this.#socket, 4).flatMap((one) =>
        this.#desired.isOwn(one) && one.linkIndex === linkIndex ? [placeOf(one)] : [],
      ),
    );
    const gone = through.filter(([key]) => !present.has(key));
    for (const [key] of gone) this.#delta.deleteActual(key);
    return wasOurs || gone.length > 0;
  }

  /** Handles a route removed from the kernel; returns whether there may be something to write or report. */
  routeGone(gone: KernelRoute): boolean {
    const key = placeOf(gone);
    if (!this.#desired.isOwn(gone)) {
      // Its place may be free now, or our route may be the first.
      const wasConflict = this.#conflicts.gone(key, gone);
      const isFree = this.#refused.get(key) !== undefined;
      if (isFree) this.#refused.delete(key);
      return wasConflict || isFree;
    }
    const actual = this.#delta.actual.get(key);
    if (this.#removing.delete(key) || actual === undefined) return false;
    if (gone.route === undefined || !isSameRoute(actual, gone.route)) return false;
    this.#loseRoute(key);
    return true;
  }

  /** Handles a new route in the kernel; returns whether it concerns one of ours and was not created by us. */
  routeMade(made: KernelRoute, place: RoutePlace): boolean {
    const key = placeOf(made);
    const desired = this.#delta.desired.get(key);
    if (desired === undefined) return false;
    const actual = this.#delta.actual.get(key);
    const isRightMetric = made.metric === metricOf(desired);
    if (this.#desired.isOwn(made) && made.route !== undefined && isRightMetric) {
      // Our own changes are reported as well, in the order in which they were written.
      if (place !== 'in the place of another') return false;
      if (actual !== undefined && isSameRoute(actual, made.route)) return false;
      this.#holdIsBroken(key);
      this.#delta.setActual(key, made.route);
      return true;
    }
    if (isRightMetric && place === 'in the place of another') {
      this.#loseRoute(key);
      return actual !== undefined;
    }
    if (!comesBefore(made, desired) || (isRightMetric && place === 'after others')) return false;
    // If our route does not exist yet, its place is occupied; that is detected when it is created.
    if (actual === undefined) return false;
    this.#holdIsBroken(key);
    this.#conflicts.add(key, made);
    this.#backoff.add(key);
    return true;
  }

  link(name: string): Link | undefined {
    return this.#desired.links.get(name);
  }

  /** Reads links, addresses and routes from the kernel. Throws `kernel/refused`. */
  resync(): void {
    this.#desired.setLinks(listLinks(this.#socket));
    this.#addresses.resync();
    const found = families
      .flatMap((family) => listKernelRoutes(this.#socket, family))
      .map((one): ListedRoute => ({ key: placeOf(one), one, isOwn: this.#desired.isOwn(one) }));
    const before = new Map(this.#delta.actual);
    const own = new Map<string, Route>();
    for (const { key, one, isOwn } of found) {
      if (isOwn && one.route !== undefined) own.set(key, one.route);
    }
    this.#delta.replaceActual(own);
    for (const [key, route] of before) {
      if (!this.#delta.actual.has(key)) this.#loseRoute(key, route);
    }
    this.#removing.clear();
    const ours = (key: string) =>
      this.#desired.has(key) ? this.#delta.actual.get(key) : undefined;
    for (const key of this.#conflicts.replace(found, ours)) this.#backoff.add(key);
    for (const key of this.#desired.places()) this.#changed.add(key);
  }

  /**
   * Applies the delta, except changes refused a moment ago. Waits for handovers; changes of the desired state
   * meanwhile are written with them, or with the next call. One call at a time.
   */
  apply(): Promise<void> | undefined {
    this.#writeDue();
    const held = [...this.#held].filter(
      (key) => this.#refused.isDue(key) && this.#delta.actual.get(key)?.type === 'blackhole',
    );
    return held.length === 0 ? undefined : this.#handOverAll(held);
  }

  /** Returns the failures of the last attempts. */
  failures(): readonly ApplyFailure[] {
    return [...this.#refused.failures(), ...this.#addresses.failures(), ...this.#kept.failures()];
  }

  /** Reports whether a failed change is due for a retry. */
  get hasDue(): boolean {
    return this.#refused.hasDue || this.#kept.hasDue || this.#addresses.hasDue;
  }

  /** Reports whether the route to an endpoint through its interface is programmed and is the one used. */
  has(destination: Cidr, interfaceName: string): boolean {
    const key = this.#desired.placeOf({ kind: 'endpoint', destination });
    const route = this.#desired.planned(key);
    if (route === undefined || route.linkIndex !== this.link(interfaceName)?.index) {
      return false;
    }
    const actual = this.#delta.actual.get(key);
    return actual !== undefined && isSameRoute(actual, route) && !this.#conflicts.has(key);
  }

  /** Returns whether the kernel accepted it. */
  #write(key: string, route: Route): boolean {
    const write = () => {
      const actual = this.#delta.actual.get(key);
      if (actual === undefined) this.#writer.make(route);
      else this.#writer.replace(actual, route, () => this.#delta.deleteActual(key));
    };
    return this.#refused.attempt(key, aboutRoute(route), () => {
      try {
        write();
      } catch (error) {
        const name = this.#desired.nameOf(route.linkIndex);
        const isIpv6Off = isRefusal(error, 'EACCES') && name !== undefined;
        if (!isIpv6Off || !this.#addresses.reviveIpv6(name)) throw error;
        write();
      }
      this.#delta.setActual(key, route);
      this.#backoff.replaced(key);
    });
  }

  #writeDue(): void {
    this.#planChanged();
    this.#addresses.apply();
    for (const [key, route] of this.#delta.removals()) {
      if (!this.#kept.isDue(key)) continue;
      const { destination: net } = route;
      this.#kept.attempt(key, { what: `removal of the route to ${net}`, net }, () => {
        deleteRoute(this.#socket, route);
        this.#delta.deleteActual(key);
      });
    }
    for (const [key, route] of this.#delta.updates()) {
      if (this.#refused.isDue(key)) this.#write(key, route);
    }
    for (const key of this.#conflicts.places()) this.#comeFirst(key);
  }

  /** Hands over blocked destinations, then writes the routes to their new owners. */
  async #handOverAll(keys: readonly string[]): Promise<void> {
    const held = keys.flatMap((key) => {
      const route = this.#delta.actual.get(key);
      return route === undefined ? [] : [{ key, route, owner: this.#desired.newOwner(key) }];
    });
    try {
      await this.#handOver(held.map(({ route }) => route.destination));
    } catch (error) {
      for (const { key, route } of held) this.#refused.add(key, aboutRoute(route), error);
      return;
    }
    for (const { key, route, owner } of held) {
      const isUnbroken = this.#delta.actual.get(key) === route;
      if (!isUnbroken || owner === undefined || this.#desired.newOwner(key) !== owner) continue;
      this.#owners.set(key, owner);
      this.#refused.delete(key);
      this.#changed.add(key);
    }
    this.#writeDue();
  }

  /** Schedules another handover: packets may have bypassed the blackhole. */
  #holdIsBroken(key: string, route = this.#delta.actual.get(key)): void {
    if (route?.type !== 'blackhole') return;
    this.#owners.delete(key);
    this.#changed.add(key);
  }

  /**
   * Puts our route first again where others precede it, and keeps those. Fails if the other has a lower metric, or if
   * another program repeatedly takes the first position.
   */
  #comeFirst(key: string): void {
    const route = this.#delta.actual.get(key);
    const conflict = this.#conflicts.first(key);
    if (conflict === undefined || !this.#desired.has(key)) return this.#conflicts.delete(key);
    if (route === undefined || !this.#refused.isDue(key)) return;
    this.#refused.attempt(key, aboutRoute(route), () => {
      if (conflict.metric < metricOf(route) || !this.#backoff.mayReplace(key)) {
        throw new Error(`another route of this host comes before it${this.#writer.by(conflict)}`);
      }
      this.#removing.add(key);
      deleteRoute(this.#socket, route);
      prependRoute(this.#socket, route);
      this.#conflicts.delete(key);
      this.#backoff.replaced(key);
    });
  }

  #planChanged(): void {
    for (const key of this.#changed) {
      const route = this.#plan(key);
      if (route === undefined) this.#delta.deleteDesired(key);
      else this.#delta.setDesired(key, route);
      if (route === undefined) this.#refused.delete(key);
    }
    this.#changed.clear();
  }

  /** Returns the desired route of a place. */
  #plan(key: string): Route | undefined {
    const route = this.#desired.planned(key);
    const actual = this.#delta.actual.get(key);
    const owner = this.#desired.newOwner(key);
    this.#held.delete(key);
    if (owner === undefined) return route;
    const isThere = route !== undefined && actual !== undefined && isSameRoute(actual, route);
    // A restarted daemon finds the routes to running containers.
    if (isThere) this.#owners.set(key, owner);
    if (this.#owners.get(key) !== owner) {
      this.#held.add(key);
      return this.#desired.blackhole(key);
    }
    return route ?? (actual?.type === 'blackhole' ? actual : undefined);
  }

  #loseRoute(key: string, route = this.#delta.actual.get(key)): void {
    this.#holdIsBroken(key, route);
    this.#delta.deleteActual(key);
    if (this.#desired.has(key)) this.#backoff.add(key);
  }

  /** The kernel removed them with the interface. */
  #forgetRoutesOf(linkIndex: number): void {
    this.#conflicts.forgetLink(linkIndex);
    for (const [key, route] of this.#delta.actual) {
      if (route.linkIndex === linkIndex) this.#delta.deleteActual(key);
    }
  }
}

function aboutRoute({ destination }: Route): Omit<ApplyFailure, 'why'> {
  return { what: `route to ${destination}`, net: destination };
}

function isSameRoute(a: Route, b: Route): boolean {
  return (
    a.type === b.type &&
    a.scope === b.scope &&
    a.linkIndex === b.linkIndex &&
    a.gateway === b.gateway
  );
}
