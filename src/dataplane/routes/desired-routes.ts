import type { Link } from '../netlink/link.ts';
import type { OwnLinks } from '../tunnels/links.ts';
import { placeOf, type KernelRoute, type Route } from '../netlink/route.ts';
import type { RouteClass, RouteKind, DesiredRoute } from './route-classes.ts';

/** Identity of a desired route. */
export type RouteTarget = Pick<DesiredRoute, 'kind' | 'destination'>;

/**
 * Desired routes by place (table and destination), and the kernel routes that they become with the existing links. If
 * several classes have a route for one place, the class of the lowest rank wins.
 */
export class DesiredRoutes {
  readonly #classes: Readonly<Record<RouteKind, RouteClass>>;
  readonly #all: readonly RouteClass[];
  readonly #desired = new Map<string, ReadonlyMap<RouteKind, DesiredRoute>>();
  readonly #byInterface = new Map<string, Set<string>>();
  readonly #links = new Map<string, Link>();
  readonly #names = new Map<number, string>();
  readonly #tunnels: OwnLinks;

  /** `tunnels`: the tunnel interfaces; no route uses an interface of such a name and another kind. */
  constructor(classes: Readonly<Record<RouteKind, RouteClass>>, tunnels: OwnLinks = new Map()) {
    this.#classes = classes;
    this.#all = Object.values(classes);
    this.#tunnels = tunnels;
  }

  /** Adds a desired route; returns its place. */
  setDesired(route: DesiredRoute): string {
    const place = this.placeOf(route);
    this.#index(place, (places) => places.delete(place));
    this.#desired.set(place, new Map([...(this.#desired.get(place) ?? []), [route.kind, route]]));
    this.#index(place, (places) => places.add(place));
    return place;
  }

  /** Deletes a desired route; returns its place, where a route of another class may still be desired. */
  deleteDesired(target: RouteTarget): string {
    const place = this.placeOf(target);
    this.#index(place, (places) => places.delete(place));
    const left = new Map(this.#desired.get(place));
    left.delete(target.kind);
    if (left.size > 0) this.#desired.set(place, left);
    else this.#desired.delete(place);
    this.#index(place, (places) => places.add(place));
    return place;
  }

  has(place: string): boolean {
    return this.#desired.has(place);
  }

  places(): Iterable<string> {
    return this.#desired.keys();
  }

  /** Returns the places whose routes need an interface. */
  by(interfaceName: string): Iterable<string> {
    return this.#byInterface.get(interfaceName) ?? [];
  }

  /** Returns the route of a place if its interface exists and is up. */
  planned(place: string): Route | undefined {
    const desired = this.#winner(place);
    if (desired === undefined) return undefined;
    const { table, protocol, plan, interfaceOf } = this.#classes[desired.kind];
    const link = this.#links.get(interfaceOf(desired));
    if (link === undefined || !link.isUp || this.#isStranger(link)) return undefined;
    return { ...plan(desired, link.index), destination: desired.destination, table, protocol };
  }

  /** Returns the blackhole route of a place, used while its destination has no interface. */
  blackhole(place: string): Route | undefined {
    const desired = this.#winner(place);
    if (desired === undefined) return undefined;
    const { table, protocol } = this.#classes[desired.kind];
    const { destination } = desired;
    return { destination, table, protocol, type: 'blackhole', scope: 'global' };
  }

  /** Returns the interface that the destination is handed over to; `undefined` for a class without handover. */
  newOwner(place: string): string | undefined {
    const desired = this.#winner(place);
    return desired !== undefined && this.#classes[desired.kind].isHandedOver
      ? this.#interfaceOf(place)
      : undefined;
  }

  /** Reports whether a kernel route belongs to one of our classes. */
  isOwn({ route, table, protocol, linkIndex }: KernelRoute): boolean {
    if (route === undefined) return false;
    const name = this.nameOf(linkIndex);
    return this.#all.some(
      (one) => one.table === table && one.protocol === protocol && one.isOwn(route, name),
    );
  }

  placeOf({ kind, destination }: RouteTarget): string {
    return placeOf({ table: this.#classes[kind].table, destination });
  }

  /** The links of the host, by name. */
  get links(): ReadonlyMap<string, Link> {
    return this.#links;
  }

  nameOf(linkIndex: number | undefined): string | undefined {
    return linkIndex === undefined ? undefined : this.#names.get(linkIndex);
  }

  setLink(name: string, link: Link | undefined): void {
    const before = this.#links.get(name);
    if (before !== undefined) this.#names.delete(before.index);
    this.#links.delete(name);
    if (link === undefined) return;
    this.#links.set(name, link);
    this.#names.set(link.index, name);
  }

  setLinks(links: readonly Link[]): void {
    this.#links.clear();
    this.#names.clear();
    for (const link of links) this.setLink(link.name, link);
  }

  /** Updates the index of each interface that a route of the place needs. */
  #index(place: string, change: (places: Set<string>) => void): void {
    for (const desired of this.#desired.get(place)?.values() ?? []) {
      const name = this.#classes[desired.kind].interfaceOf(desired);
      const places = this.#byInterface.get(name) ?? new Set();
      change(places);
      if (places.size > 0) this.#byInterface.set(name, places);
      else this.#byInterface.delete(name);
    }
  }

  #isStranger({ name, kind }: Link): boolean {
    const own = this.#tunnels.get(name);
    return own !== undefined && own !== kind;
  }

  #interfaceOf(place: string): string | undefined {
    const desired = this.#winner(place);
    return desired && this.#classes[desired.kind].interfaceOf(desired);
  }

  #winner(place: string): DesiredRoute | undefined {
    const desired = [...(this.#desired.get(place)?.values() ?? [])];
    const [first] = desired;
    return desired.length < 2
      ? first
      : desired.toSorted((a, b) => this.#classes[a.kind].rank - this.#classes[b.kind].rank)[0];
  }
}
