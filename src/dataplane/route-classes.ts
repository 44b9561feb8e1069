import { cidrFamily, isHostCidr, type Cidr } from '../ip/cidr.ts';
import { ourProtocol, routeTables, type Route } from './netlink/route.ts';

/** A route that is wanted; the interface by name, as it may not be there yet. */
export type DesiredRoute =
  /** To one container, by the host's end of its veth. */
  | { readonly kind: 'endpoint'; readonly destination: Cidr; readonly interface: string }
  /** An address that this host answers for on all its links, without having it on one. */
  | { readonly kind: 'local'; readonly destination: Cidr };

/** The class of a route: who wants it, and what for. */
export type RouteKind = DesiredRoute['kind'];

/**
 * Who owns routes is said by table, class and protocol, as several may share a table: each of ours, Felix, BIRD, and
 * whoever administers the host. What no class calls its own is never removed nor changed.
 */
export interface RouteClass {
  readonly table: number;
  readonly protocol: number;
  /** Of two classes that want a route to one destination in one table, that of the lower rank has it. */
  readonly rank: number;
  /**
   * Whether a route of the table and protocol that nobody wants (any more) is one of this class. To be narrow: what it
   * takes for its own is removed.
   */
  readonly isOwn: (route: Route, interfaceName: string | undefined) => boolean;
  /** The interface that a wanted route needs. */
  readonly interfaceOf: (desired: DesiredRoute) => string;
  readonly plan: (desired: DesiredRoute, linkIndex: number) => RoutePlan;
  /** Whether what its destination began before is ended before the first route leads there. */
  readonly isHandedOver: boolean;
}

type RoutePlan = Pick<Route, 'type' | 'scope' | 'linkIndex' | 'gateway' | 'isOnLink'>;

/** All classes of the host's network namespace. A new one is a line here and its form of `DesiredRoute`. */
export const routeClasses: Readonly<Record<RouteKind, RouteClass>> = {
  endpoint: {
    table: routeTables.main,
    protocol: ourProtocol,
    rank: 0,
    // A blackhole holds an address back while it is handed over.
    isOwn: ({ destination, type }, name) =>
      isHostCidr(destination) && (type === 'blackhole' || name?.startsWith('cali') === true),
    interfaceOf: (desired) => (desired.kind === 'endpoint' ? desired.interface : 'lo'),
    plan: ({ destination }, linkIndex) => ({
      type: 'unicast',
      scope: scopeOf(destination, 'link'),
      linkIndex,
    }),
    isHandedOver: true,
  },
  local: {
    table: routeTables.local,
    protocol: ourProtocol,
    rank: 0,
    isOwn: ({ type }) => type === 'local',
    interfaceOf: () => 'lo',
    plan: ({ destination }, linkIndex) => ({
      type: 'local',
      scope: scopeOf(destination, 'host'),
      linkIndex,
    }),
    isHandedOver: false,
  },
};

/** IPv6 routes have no scope of their own; the kernel lists them as global. */
function scopeOf<Scope extends Route['scope']>(destination: Cidr, scope: Scope): Scope | 'global' {
  return cidrFamily(destination) === 4 ? scope : 'global';
}
