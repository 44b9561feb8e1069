import { cidrFamily, isHostCidr, type Cidr } from '../../ip/cidr.ts';
import type { IpAddress } from '../../ip/address.ts';
import { ourProtocol, routeTables, type Route } from '../netlink/route.ts';

/** A desired route; the interface by name, because it may not exist yet. */
export type DesiredRoute =
  /** To one container, through the host end of its veth. */
  | { readonly kind: 'endpoint'; readonly destination: Cidr; readonly interface: string }
  /** To a prefix behind a container: the gateway is the container's own address. */
  | {
      readonly kind: 'prefix';
      readonly destination: Cidr;
      readonly interface: string;
      readonly gateway: IpAddress;
    }
  /** To a block, or to an address of another node, through that node. */
  | {
      readonly kind: 'block';
      readonly destination: Cidr;
      /** Without it a blackhole: the addresses are this node's own. */
      readonly via?: { readonly interface: string; readonly gateway: IpAddress };
    }
  /** An address that this host answers for on all its links, without an interface that has it. */
  | { readonly kind: 'local'; readonly destination: Cidr };

/** The class of a route: its owner and purpose. */
export type RouteKind = DesiredRoute['kind'];

/**
 * Routes are owned by table, class and protocol, because several programs may share a table: our classes, Felix, BIRD,
 * and the administrator. A route that belongs to no class is never removed or changed.
 */
export interface RouteClass {
  readonly table: number;
  readonly protocol: number;
  /** Of two classes with a route to one destination in one table, the one of the lower rank wins. */
  readonly rank: number;
  /**
   * Whether a route of the table and protocol that is not desired belongs to this class. Must be narrow: routes it
   * accepts are removed.
   */
  readonly isOwn: (route: Route, interfaceName: string | undefined) => boolean;
  /** The interface that a desired route needs. */
  readonly interfaceOf: (desired: DesiredRoute) => string;
  readonly plan: (desired: DesiredRoute, linkIndex: number) => RoutePlan;
  /** Whether connections of its destination are flushed before the first route points there. */
  readonly isHandedOver: boolean;
}

type RoutePlan = Pick<Route, 'type' | 'scope' | 'linkIndex' | 'gateway' | 'isOnLink'>;

/** A separate protocol, because Felix's blackholes to networks have the protocol of the other classes. */
export const prefixProtocol = 81;

/** A separate protocol, because Felix removes other routes of its own, 80, wherever they lead. */
export const blockProtocol = 82;

/** All classes of the host's network namespace. A new one is a line here and its form of `DesiredRoute`. */
export const routeClasses: Readonly<Record<RouteKind, RouteClass>> = {
  endpoint: {
    table: routeTables.main,
    protocol: ourProtocol,
    rank: 0,
    // A blackhole blocks an address while it is handed over.
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
  prefix: {
    table: routeTables.main,
    protocol: prefixProtocol,
    rank: 1,
    isOwn: ({ type }, name) => type === 'blackhole' || name?.startsWith('cali') === true,
    interfaceOf: (desired) => (desired.kind === 'prefix' ? desired.interface : 'lo'),
    plan: (desired, linkIndex) => ({
      type: 'unicast',
      scope: 'global',
      linkIndex,
      isOnLink: true,
      ...(desired.kind === 'prefix' ? { gateway: desired.gateway } : {}),
    }),
    isHandedOver: true,
  },
  block: {
    table: routeTables.main,
    protocol: blockProtocol,
    rank: 2,
    isOwn: () => true,
    interfaceOf: (desired) => (desired.kind === 'block' ? (desired.via?.interface ?? 'lo') : 'lo'),
    // The decision that the gateway is on the link was made from the addresses of the two nodes.
    plan: (desired, linkIndex) =>
      desired.kind === 'block' && desired.via !== undefined
        ? {
            type: 'unicast',
            scope: 'global',
            linkIndex,
            gateway: desired.via.gateway,
            isOnLink: true,
          }
        : { type: 'blackhole', scope: 'global' },
    isHandedOver: false,
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
