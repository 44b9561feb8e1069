import { cidrFamily } from '../../ip/cidr.ts';
import type { KernelRoute, Route } from '../netlink/route.ts';

/** A route as the kernel lists it, with its place, and whether it belongs to one of our classes. */
export interface ListedRoute {
  readonly key: string;
  readonly one: KernelRoute;
  readonly isOwn: boolean;
}

/** Routes of other programs that the kernel prefers to ours, by place. */
export class ConflictingRoutes {
  readonly #byPlace = new Map<string, readonly KernelRoute[]>();

  add(place: string, conflict: KernelRoute): void {
    this.#byPlace.set(place, [...this.#without(place, conflict), conflict]);
  }

  /** Handles a route removed from the kernel; returns whether it was one of these. */
  gone(place: string, route: KernelRoute): boolean {
    const before = this.#byPlace.get(place) ?? [];
    this.#set(place, this.#without(place, route));
    return (this.#byPlace.get(place)?.length ?? 0) < before.length;
  }

  /** Drops the routes of a removed interface: the kernel does not report their removal. */
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

  /**
   * Finds the conflicts among all routes, listed in their order; returns their places. `ours`: our route of a place.
   */
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

/** Returns the metric that the kernel uses for a route without one. */
export function metricOf({ destination, metric }: Pick<Route, 'destination' | 'metric'>): number {
  return metric ?? (cidrFamily(destination) === 4 ? 0 : 1024);
}

/** Reports whether a route is tried before ours in the same place, unless it is listed after it. */
export function comesBefore(one: KernelRoute, ours: Route): boolean {
  if (one.metric < metricOf(ours)) return true;
  // With equal metrics, only IPv4 can put a later route before an existing one.
  return one.metric === metricOf(ours) && cidrFamily(ours.destination) === 4;
}
