import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrOf, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { parseAddress } from '../../ip/address.ts';
import { address, readAddress, readAttributes, u32 } from './attributes.ts';
import { isRefusal, requestFlags, type NetlinkSocket } from './socket.ts';

/** Routes by rtnetlink. Source: linux/rtnetlink.h. */

const newRoute = 24;
const deleteRouteType = 25;
const getRoute = 26;
const attributes = { destination: 1, outInterface: 4, gateway: 5, metric: 6, table: 15 };
const headerBytes = 12;
const flagOnLink = 4;
const flagCloned = 0x200;

/** The routing protocol number that marks our routes, the same as Calico's. */
export const ourProtocol = 80;

/** The protocol number of routes that BIRD writes. */
export const birdProtocol = 12;

export const routeTables = { main: 254, local: 255 } as const;

const typeNumbers = { unicast: 1, local: 2, blackhole: 6 } as const;
const scopeNumbers = { global: 0, link: 253, host: 254 } as const;

/** A route; its identity is destination, table and metric. */
export interface Route {
  readonly destination: Cidr;
  readonly table: number;
  readonly type: keyof typeof typeNumbers;
  readonly scope: keyof typeof scopeNumbers;
  /** Index of the interface; absent for blackholes. */
  readonly linkIndex?: number;
  readonly gateway?: IpAddress;
  readonly metric?: number;
  /** Whether the gateway is on the link without a route to it. */
  readonly isOnLink?: boolean;
  /** The protocol that marks its owner; ours if not given. */
  readonly protocol?: number;
}

/**
 * A route as the kernel reports it, of any type and owner. Of several to one destination in a table, the one with the
 * lowest metric is used, and of those the first.
 */
export interface KernelRoute {
  readonly destination: Cidr;
  readonly table: number;
  readonly metric: number;
  readonly protocol: number;
  readonly linkIndex: number | undefined;
  /** The route itself, if it is of a type that we create. */
  readonly route: Route | undefined;
}

/**
 * Creates a route; refused with EEXIST if its identity exists, from any program. Equivalent: `ip route add … proto
 * 80`.
 */
export function makeRoute(socket: NetlinkSocket, route: Route): void {
  socket.request({
    type: newRoute,
    flags: requestFlags.create | requestFlags.exclusive,
    what: `create the route to ${route.destination}`,
    payload: encode(route),
  });
}

/** Creates a route, or changes the one of its identity. Equivalent: `ip route replace … proto 80`. */
export function replaceRoute(socket: NetlinkSocket, route: Route): void {
  socket.request({
    type: newRoute,
    flags: requestFlags.create | requestFlags.replace,
    what: `set the route to ${route.destination}`,
    payload: encode(route),
  });
}

/**
 * Creates a route before all others of its destination, table and metric, which stay. IPv4 only. Equivalent: `ip route
 * prepend … proto 80`.
 */
export function prependRoute(socket: NetlinkSocket, route: Route): void {
  socket.request({
    type: newRoute,
    flags: requestFlags.create,
    what: `prepend the route to ${route.destination}`,
    payload: encode(route),
  });
}

/** Removes a route. Does nothing if it does not exist. */
export function deleteRoute(socket: NetlinkSocket, route: Route): void {
  try {
    socket.request({
      type: deleteRouteType,
      what: `remove the route to ${route.destination}`,
      payload: encode(route),
    });
  } catch (error) {
    if (!isRefusal(error, 'ESRCH', 'ENODEV')) throw error;
  }
}

/** Returns all routes of a family, in the order in which they are tried. */
export function listKernelRoutes(socket: NetlinkSocket, family: IpFamily): readonly KernelRoute[] {
  return dumpRoutes(socket, { family }).flatMap((payload) => readKernelRoute(payload) ?? []);
}

/** Returns the routes of a family, of the types that we create; only those of a protocol, if given. */
export function listRoutes(
  socket: NetlinkSocket,
  options: { readonly family: IpFamily; readonly protocol?: number },
): readonly Route[] {
  return dumpRoutes(socket, options).flatMap((payload) => readRoute(payload) ?? []);
}

function dumpRoutes(
  socket: NetlinkSocket,
  options: { readonly family: IpFamily; readonly protocol?: number },
): readonly Buffer[] {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(options.family === 4 ? 2 : 10, 0);
  header.writeUInt8(options.protocol ?? 0, 5);
  return socket
    .dump({ type: getRoute, payload: header, what: 'list the routes' })
    .map(({ payload }) => payload)
    .filter(
      (payload) =>
        (options.protocol === undefined || payload[5] === options.protocol) && !isCloned(payload),
    );
}

/** Cached kernel entries, such as a path MTU. */
function isCloned(payload: Buffer): boolean {
  return (payload.readUInt32LE(8) & flagCloned) !== 0;
}

function encode(route: Route): Buffer {
  const { address: first, prefixLength } = splitCidr(route.destination);
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(cidrFamily(route.destination) === 4 ? 2 : 10, 0);
  header.writeUInt8(prefixLength, 1);
  header.writeUInt8(route.table < 256 ? route.table : 0, 4);
  header.writeUInt8(route.protocol ?? ourProtocol, 5);
  header.writeUInt8(scopeNumbers[route.scope], 6);
  header.writeUInt8(typeNumbers[route.type], 7);
  header.writeUInt32LE(route.isOnLink === true ? flagOnLink : 0, 8);
  return Buffer.concat([
    header,
    address(attributes.destination, first),
    u32(attributes.table, route.table),
    ...(route.linkIndex === undefined ? [] : [u32(attributes.outInterface, route.linkIndex)]),
    ...(route.gateway === undefined ? [] : [address(attributes.gateway, route.gateway)]),
    ...(route.metric === undefined ? [] : [u32(attributes.metric, route.metric)]),
  ]);
}

/** Returns the route in a kernel message; `undefined` if it is of a type that we never create. */
export function readRoute(payload: Buffer): Route | undefined {
  return readKernelRoute(payload)?.route;
}

/** Returns the route in a kernel message; `undefined` for cached entries. */
export function readKernelRoute(payload: Buffer): KernelRoute | undefined {
  if (isCloned(payload)) return undefined;
  const family: IpFamily = payload[0] === 2 ? 4 : 6;
  const found = readAttributes(payload.subarray(headerBytes));
  const number = (type: number) => found.get(type)?.readUInt32LE(0);
  const first = found.get(attributes.destination);
  const gateway = found.get(attributes.gateway);
  const linkIndex = number(attributes.outInterface);
  const metric = number(attributes.metric);
  const type = nameOf(typeNumbers, payload[7]);
  const place = {
    destination: cidrOf(
      first === undefined ? unspecified(family) : readAddress(first),
      payload[1] ?? 0,
    ),
    table: number(attributes.table) ?? payload[4] ?? 0,
    protocol: payload[5] ?? 0,
  };
  const route: Route | undefined = type && {
    ...place,
    type,
    scope: nameOf(scopeNumbers, payload[6]) ?? 'global',
    // IPv6 reports lo for a blackhole, which has no interface.
    ...(linkIndex === undefined || type === 'blackhole' ? {} : { linkIndex }),
    ...(gateway === undefined ? {} : { gateway: readAddress(gateway) }),
    ...(metric === undefined ? {} : { metric }),
  };
  return { ...place, metric: metric ?? 0, linkIndex, route };
}

/** Returns the place of a route, its table and destination: routes of one place conflict. */
export function placeOf({ table, destination }: Pick<Route, 'table' | 'destination'>): string {
  return `${table} ${destination}`;
}

function unspecified(family: IpFamily): IpAddress {
  return parseAddress(family === 4 ? '0.0.0.0' : '::');
}

function nameOf<Name extends string>(
  numbers: Readonly<Record<Name, number>>,
  wanted: number | undefined,
): Name | undefined {
  for (const name in numbers) if (numbers[name] === wanted) return name;
  return undefined;
}
