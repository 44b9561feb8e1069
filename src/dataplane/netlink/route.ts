import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrOf, hostCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { addressBits, parseAddress } from '../../ip/address.ts';
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
  /** Whether the gateway is on the link although no route says so. */
  readonly isOnLink?: boolean;
  /** Who made it, of routes that were listed. */
  readonly protocol?: number;
}

/** Makes a route; refused with EEXIST if there is one of its identity, whoever made it. Equivalent: `ip route add … proto 80`. */
export function makeRoute(socket: NetlinkSocket, route: Route): void {
  socket.request({
    type: newRoute,
    flags: requestFlags.create | requestFlags.exclusive,
    what: `make the route to ${route.destination}`,
    payload: encode(route),
  });
}

/** Makes a route, or changes the one of its identity. Equivalent: `ip route replace … proto 80`. */
export function replaceRoute(socket: NetlinkSocket, route: Route): void {
  socket.request({
    type: newRoute,
    flags: requestFlags.create | requestFlags.replace,
    what: `route ${route.destination}`,
    payload: encode(route),
  });
}

/** Removes a route; nothing if there is none. */
export function deleteRoute(socket: NetlinkSocket, route: Route): void {
  try {
    socket.request({
      type: deleteRouteType,
      what: `remove the route ${route.destination}`,
      payload: encode(route),
    });
  } catch (error) {
    if (!isRefusal(error, 'ESRCH', 'ENODEV')) throw error;
  }
}

/** The routes of a family; only our own if `protocol` says so. */
export function listRoutes(
  socket: NetlinkSocket,
  options: { readonly family: IpFamily; readonly protocol?: number },
): readonly Route[] {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(options.family === 4 ? 2 : 10, 0);
  header.writeUInt8(options.protocol ?? 0, 5);
  return socket
    .dump({ type: getRoute, payload: header, what: 'list the routes' })
    .filter(
      ({ payload }) =>
        (options.protocol === undefined || payload[5] === options.protocol) &&
        (payload.readUInt32LE(8) & flagCloned) === 0,
    )
    .flatMap(({ payload }) => {
      const route = readRoute(payload);
      return route === undefined ? [] : [route];
    });
}

function encode(route: Route): Buffer {
  const { address: first, prefixLength } = splitCidr(route.destination);
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(cidrFamily(route.destination) === 4 ? 2 : 10, 0);
  header.writeUInt8(prefixLength, 1);
  header.writeUInt8(route.table < 256 ? route.table : 0, 4);
  header.writeUInt8(ourProtocol, 5);
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

/** The route in a message of the kernel's; `undefined` if it is of a type that we never make. */
export function readRoute(payload: Buffer): Route | undefined {
  const family: IpFamily = payload[0] === 2 ? 4 : 6;
  const found = readAttributes(payload.subarray(headerBytes));
  const number = (type: number) => found.get(type)?.readUInt32LE(0);
  const type = nameOf(typeNumbers, payload[7]);
  if (type === undefined) return undefined;
  const first = found.get(attributes.destination);
  const gateway = found.get(attributes.gateway);
  const linkIndex = number(attributes.outInterface);
  const metric = number(attributes.metric);
  return {
    destination: cidrOf(
      first === undefined ? unspecified(family) : readAddress(first),
      payload[1] ?? 0,
    ),
    table: number(attributes.table) ?? payload[4] ?? 0,
    protocol: payload[5] ?? 0,
    type,
    scope: nameOf(scopeNumbers, payload[6]) ?? 'global',
    ...(linkIndex === undefined ? {} : { linkIndex }),
    ...(gateway === undefined ? {} : { gateway: readAddress(gateway) }),
    ...(metric === undefined ? {} : { metric }),
  };
}

/** A route that stands in the place of another. */
export interface ReplacingRoute {
  readonly destination: Cidr;
  readonly table: number;
  readonly metric: number;
  /** The route itself, if it is of our protocol and of a type that we make. */
  readonly own: Route | undefined;
}

/** The route to a single address in a message of the kernel's; `undefined` for one to a network, as ours never are. */
export function readReplacingRoute(payload: Buffer): ReplacingRoute | undefined {
  const family: IpFamily = payload[0] === 2 ? 4 : 6;
  if (payload[1] !== addressBits(family)) return undefined;
  const found = readAttributes(payload.subarray(headerBytes));
  const first = found.get(attributes.destination);
  if (first === undefined) return undefined;
  return {
    destination: hostCidr(readAddress(first)),
    table: found.get(attributes.table)?.readUInt32LE(0) ?? payload[4] ?? 0,
    metric: found.get(attributes.metric)?.readUInt32LE(0) ?? 0,
    own: payload[5] === ourProtocol ? readRoute(payload) : undefined,
  };
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
