import { cidrFamily } from '../ip/cidr.ts';
import type { KernelRoute, Route } from './netlink/route.ts';

/** A route as the kernel lists it, with its place, and whether it is of one of our classes. */
export interface ListedRoute {
  readonly key: string;
  readonly one: KernelRoute;
  readonly isOwn: boolean;
}

/** Routes of others that the kernel takes instead of ours, by place. */
export class ConflictingRoutes {
  readonly #byPlace = new Map<string, readonly KernelRoute[]>();

  add(place: string, conflict: KernelRoute): void {
    this.#byPlace.set(place, [...this.#without(place, conflict), conflict]);
  }

  /** The kernel tells that a route is gone; answers whether it was one of these. */
  gone(place: string, route: KernelRoute): boolean {
    const before = this.#byPlace.get(place) ?? [];
    this.#set(place, this.#without(place, route));
    return (this.#byPlace.get(place)?.length ?? 0) < before.length;
  }

  /** An interface went, with its routes, of which the kernel does not tell. */
  forgetLink(linkIndex: number): void {
    for (const [place, conflicts] of this.#byPlace) {
      this.#set(
        place,
        conflicts.filter((conflict) => conflict.linkIndex !== linkIndex),
      );
    }
  }

  has(place: string): boolean {
    return this.#byPlace.has(place);
  }

  /** The one of the lowest metric. */
  first(place: string): KernelRoute | undefined {
    return (this.#byPlace.get(place) ?? []).toSorted((a, b) => a.metric - b.metric)[0];
  }

  places(): readonly string[] {
    return [...this.#byPlace.keys()];
  }

  delete(place: string): void {
    this.#byPlace.delete(place);
  }

  /** Finds them anew among all routes, listed in their order; returns their places. `ours`: our route of a place. */
  replace(
    listed: readonly ListedRoute[],
    ours: (place: string) => Route | undefined,
  ): readonly string[] {
    this.#byPlace.clear();
    const seen = new Set<string>();
    for (const { key, one, isOwn } of listed) {
      const own = ours(key);
      if (own === undefined) continue;
      if (isOwn) seen.add(key);
      else if (comesBefore(one, own) && (one.metric < metricOf(own) || !seen.has(key))) {
        this.add(key, one);
      }
    }
    return this.places();
  }

  #set(place: string, conflicts: readonly KernelRoute[]): void {
    if (conflicts.length > 0) this.#byPlace.set(place, conflicts);
    else this.#byPlace.delete(place);
  }

  #without(place: string, { metric, protocol, linkIndex }: KernelRoute): readonly KernelRoute[] {
    return (this.#byPlace.get(place) ?? []).filter(
      (one) => one.metric !== metric || one.protocol !== protocol || one.linkIndex !== linkIndex,
    );
  }
}

/** What the kernel gives to a route that names none. */
export function metricOf({ destination, metric }: Pick<Route, 'destination' | 'metric'>): number {
  return metric ?? (cidrFamily(destination) === 4 ? 0 : 1024);
}

/** Whether a route is tried before one of ours in the same place, as long as it is not listed after it. */
export function comesBefore(one: KernelRoute, ours: Route): boolean {
  if (one.metric < metricOf(ours)) return true;
  // Of the same metric only IPv4 takes one that was made later before one that is there.
  return one.metric === metricOf(ours) && cidrFamily(ours.destination) === 4;
}
