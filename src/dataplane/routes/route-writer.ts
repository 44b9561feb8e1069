import { cidrFamily } from '../../ip/cidr.ts';
import { metricOf } from './conflicting-routes.ts';
import type { DesiredRoutes } from './desired-routes.ts';
import {
  deleteRoute,
  listKernelRoutes,
  makeRoute,
  placeOf,
  replaceRoute,
  type KernelRoute,
  type Route,
} from '../netlink/route.ts';
import { isRefusal, type NetlinkSocket } from '../netlink/socket.ts';
import type { ReplaceBackoff } from './replace-backoff.ts';

/** Writes single routes to the kernel, next to those of other programs. Throws `kernel/refused`. */
export class RouteWriter {
  readonly #socket: NetlinkSocket;
  readonly #desired: Pick<DesiredRoutes, 'isOwn' | 'nameOf'>;
  readonly #backoff: Pick<ReplaceBackoff, 'mayReplace'>;

  constructor(
    socket: NetlinkSocket,
    desired: Pick<DesiredRoutes, 'isOwn' | 'nameOf'>,
    backoff: Pick<ReplaceBackoff, 'mayReplace'>,
  ) {
    this.#socket = socket;
    this.#desired = desired;
    this.#backoff = backoff;
  }

  /**
   * Creates a route that is missing as last known. If one exists after all, it is replaced if it is ours, replaced
   * ours, or points to a container, such as those of older plugins. Any other stays, and this throws.
   */
  make(route: Route): void {
    try {
      makeRoute(this.#socket, route);
    } catch (error) {
      if (!isRefusal(error, 'EEXIST')) throw error;
      const key = placeOf(route);
      const conflicts = listKernelRoutes(this.#socket, cidrFamily(route.destination)).filter(
        (one) => placeOf(one) === key && one.metric === metricOf(route),
      );
      const mayReplace =
        this.#backoff.mayReplace(key) ||
        conflicts.some(
          (one) =>
            this.#desired.isOwn(one) ||
            this.#desired.nameOf(one.linkIndex)?.startsWith('cali') === true,
        );
      if (mayReplace) {
        replaceRoute(this.#socket, route);
      } else if (route.type !== 'local' || conflicts[0]?.route?.type !== 'local') {
        throw new Error(`this host has another route there${this.by(conflicts[0])}`, {
          cause: error,
        });
      }
      // Otherwise the host has the address itself, and so answers for it.
    }
  }

  /**
   * Replaces a route of ours. IPv6 refuses a gateway that the present route leads to through another interface, although
   * that route is the one to be replaced: it is removed first, and `onRemoved` called.
   */
  replace(actual: Route, route: Route, onRemoved: () => void): void {
    try {
      replaceRoute(this.#socket, route);
    } catch (error) {
      const isMoved = route.gateway !== undefined && actual.linkIndex !== route.linkIndex;
      if (!isMoved || !isRefusal(error, 'EINVAL')) throw error;
      deleteRoute(this.#socket, actual);
      onRemoved();
      this.make(route);
    }
  }

  /** Returns the interface of a route in the way of ours, as the end of a sentence. */
  by(conflict: KernelRoute | undefined): string {
    const name = this.#desired.nameOf(conflict?.linkIndex);
    return name === undefined ? '' : ` by ${name}`;
  }
}
