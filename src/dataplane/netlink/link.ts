import { attribute, nest, readAttributes, readText, text, u32 } from './attributes.ts';
import { encodeKind, readKind, readKindName, type LinkKind, type ToldKind } from './link-kinds.ts';
import { macBytes, macText } from './mac.ts';
import { isRefusal, requestFlags, type NetlinkSocket, type Request } from './socket.ts';

/** Network interfaces by rtnetlink. Source: linux/if_link.h, linux/rtnetlink.h. */

const newLink = 16;
const deleteLinkType = 17;
const getLink = 18;
const setLink = 19;

const attributes = {
  address: 1,
  name: 3,
  mtu: 4,
  operationalState: 16,
  info: 18,
  afSpec: 26,
  filterMask: 29,
  otherNamespace: 37,
};
/** Those that are read of an interface; the kernel sends fifty more. */
const readTypes: ReadonlySet<number> = new Set([
  attributes.address,
  attributes.name,
  attributes.mtu,
  attributes.operationalState,
  attributes.info,
  attributes.otherNamespace,
]);
/** `RTEXT_FILTER_SKIP_STATS` */
const skipStatistics = 8;
const afInet = 2;
const inetConf = 1;
const flagUp = 1;
const headerBytes = 16;

/** Settings of one interface below `/proc/sys/net/ipv4/conf`, by their numbers. Source: linux/ip.h. */
const ipv4Settings = { forwarding: 1, proxyArp: 3, rpFilter: 8, routeLocalnet: 26 } as const;

/** An interface as the kernel lists it. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mac: string;
  readonly mtuBytes: number;
  readonly isUp: boolean;
  /** Whether the other end is up as well, so that packets pass. */
  readonly hasCarrier: boolean;
  /** Kind of the virtual link, if it is one that we create, as we create it; absent for any other. */
  readonly is?: ToldKind;
  /** Name of its kind: `vxlan`; absent for a physical link. */
  readonly kind?: string;
  /** Whether its peer (veth) or lower device is in another network namespace. */
  readonly leadsOut: boolean;
}

/** A veth pair with both ends in this namespace; the host end is up. */
export interface Veth {
  readonly hostName: string;
  readonly hostMac: string;
  readonly peerName: string;
  readonly peerMac: string;
  readonly mtuBytes: number;
}

/**
 * Creates a veth pair. Equivalent: `ip link add HOST type veth peer name PEER`, then the host end up, with forwarding
 * and loose reverse path filtering, because a container's packets may have any of its addresses as source; our rules
 * check the source address. Throws `kernel/refused` (EEXIST if one of the names is taken).
 */
export function createVeth(socket: NetlinkSocket, veth: Veth): void {
  const { hostName, peerName, mtuBytes } = veth;
  const peer = Buffer.concat([
    linkHeader({}),
    text(attributes.name, peerName),
    attribute(attributes.address, macBytes(veth.peerMac)),
    u32(attributes.mtu, mtuBytes),
  ]);
  makeLink(socket, {
    name: hostName,
    mac: veth.hostMac,
    mtuBytes,
    is: { kind: 'veth', peer },
    what: `create the interface pair ${hostName} and ${peerName}`,
  });
  configureHostEnd(socket, hostName);
}

/** A link to create. */
export interface NewLink {
  readonly name: string;
  /** The kernel chooses where it is not given; links of the third layer have none. */
  readonly mac?: string;
  readonly mtuBytes?: number;
  readonly is: LinkKind;
  /** The operation, for errors. */
  readonly what?: string;
}

/**
 * Creates a virtual link, which is down at first. Equivalent: `ip link add NAME [address MAC] [mtu BYTES] type KIND
 * …`. Throws `kernel/refused`: EEXIST if the name is taken, EOPNOTSUPP if the kernel does not support the kind.
 */
export function makeLink(socket: NetlinkSocket, { name, mac, mtuBytes, is, what }: NewLink): void {
  socket.request({
    type: newLink,
    flags: requestFlags.create | requestFlags.exclusive,
    what: what ?? `create the ${is.kind} interface ${name}`,
    payload: Buffer.concat([
      linkHeader({}),
      text(attributes.name, name),
      ...(mac === undefined ? [] : [attribute(attributes.address, macBytes(mac))]),
      ...(mtuBytes === undefined ? [] : [u32(attributes.mtu, mtuBytes)]),
      nest(attributes.info, encodeKind(is)),
    ]),
  });
}

/** Brings the host end of a veth up with the settings that it needs. Idempotent. */
export function configureHostEnd(socket: NetlinkSocket, name: string): void {
  setUp(socket, { name, ipv4: { forwarding: 1, proxyArp: 0, rpFilter: 2 } });
}

/**
 * Brings a tunnel interface up, with MAC address and MTU, forwarding and loose reverse path filtering. Idempotent.
 * Throws `kernel/refused`: EINVAL for an MTU that the interface below does not carry.
 */
export function configureTunnel(
  socket: NetlinkSocket,
  tunnel: { readonly name: string; readonly mac?: string; readonly mtuBytes: number },
): void {
  setUp(socket, { ...tunnel, ipv4: { forwarding: 1, rpFilter: 2 } });
}

/** Sets an interface down. Does nothing if it does not exist. Throws `kernel/refused`. */
export function setDown(socket: NetlinkSocket, name: string): void {
  try {
    socket.request({
      type: setLink,
      what: `set down the interface ${name}`,
      payload: Buffer.concat([linkHeader({ change: flagUp }), text(attributes.name, name)]),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENODEV')) throw error;
  }
}

function setUp(
  socket: NetlinkSocket,
  link: {
    readonly name: string;
    readonly mac?: string;
    readonly mtuBytes?: number;
    readonly ipv4: Parameters<typeof ipv4Configuration>[0];
  },
): void {
  const { name, mac, mtuBytes, ipv4 } = link;
  socket.request({
    type: setLink,
    what: `set up the interface ${name}`,
    payload: Buffer.concat([
      linkHeader({ flags: flagUp, change: flagUp }),
      text(attributes.name, name),
      ...(mac === undefined ? [] : [attribute(attributes.address, macBytes(mac))]),
      ...(mtuBytes === undefined ? [] : [u32(attributes.mtu, mtuBytes)]),
      ipv4Configuration(ipv4),
    ]),
  });
}

/**
 * Whether packets from and to 127.0.0.0/8 may pass an interface. Equivalent: `sysctl
 * net.ipv4.conf.NAME.route_localnet`. Does nothing if the interface does not exist.
 */
export function setRouteLocalnet(socket: NetlinkSocket, name: string, isOn: boolean): void {
  try {
    socket.request({
      type: setLink,
      what: `set route_localnet of the interface ${name}`,
      payload: Buffer.concat([
        linkHeader({}),
        text(attributes.name, name),
        ipv4Configuration({ routeLocalnet: isOn ? 1 : 0 }),
      ]),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENODEV')) throw error;
  }
}

function ipv4Configuration(
  values: Readonly<Partial<Record<keyof typeof ipv4Settings, number>>>,
): Buffer {
  const names: readonly (keyof typeof ipv4Settings)[] = [
    'forwarding',
    'proxyArp',
    'rpFilter',
    'routeLocalnet',
  ];
  const settings = names.flatMap((name) => {
    const value = values[name];
    return value === undefined ? [] : [u32(ipv4Settings[name], value)];
  });
  return nest(attributes.afSpec, [nest(afInet, [nest(inetConf, settings)])]);
}

/** Removes an interface. Does nothing if it does not exist. Throws `kernel/refused`. */
export function deleteLink(socket: NetlinkSocket, name: string): void {
  try {
    socket.request(deletion(name));
  } catch (error) {
    if (!isRefusal(error, 'ENODEV')) throw error;
  }
}

/** Removes an interface (a veth with its peer). Does nothing if it does not exist. Takes the kernel some 25 ms. */
export async function deleteLinkOffThread(socket: NetlinkSocket, name: string): Promise<void> {
  try {
    await socket.requestsOffThread([deletion(name)]);
  } catch (error) {
    if (!isRefusal(error, 'ENODEV')) throw error;
  }
}

/** Returns the interfaces of the socket's network namespace. */
export function listLinks(socket: NetlinkSocket): readonly Link[] {
  const payload = Buffer.concat([linkHeader({}), u32(attributes.filterMask, skipStatistics)]);
  return socket
    .dump({ type: getLink, payload, what: 'list the interfaces' })
    .map(({ payload }) => readLink(payload));
}

/** Returns an interface by name; `undefined` if none exists. */
export function findLink(socket: NetlinkSocket, name: string): Link | undefined {
  try {
    const [found] = socket.query({
      type: getLink,
      what: `read interface ${name}`,
      payload: Buffer.concat([linkHeader({}), text(attributes.name, name)]),
    });
    return found === undefined ? undefined : readLink(found.payload);
  } catch (error) {
    if (isRefusal(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/** One interface as a message of the kernel describes it. */
export function readLink(payload: Buffer): Link {
  const found = readAttributes(payload.subarray(headerBytes), readTypes);
  const flags = payload.readUInt32LE(8);
  const name = found.get(attributes.name);
  const info = found.get(attributes.info);
  const is = info === undefined ? undefined : readKind(info);
  const kind = info === undefined ? undefined : readKindName(info);
  return {
    index: payload.readInt32LE(4),
    name: name === undefined ? '' : readText(name),
    mac: macText(found.get(attributes.address)),
    mtuBytes: found.get(attributes.mtu)?.readUInt32LE(0) ?? 0,
    isUp: (flags & flagUp) !== 0,
    hasCarrier: found.get(attributes.operationalState)?.[0] === operationalUp,
    ...(is === undefined ? {} : { is }),
    ...(kind === undefined ? {} : { kind }),
    leadsOut: found.has(attributes.otherNamespace),
  };
}

const operationalUp = 6;

function deletion(name: string): Request {
  return {
    type: deleteLinkType,
    what: `remove the interface ${name}`,
    payload: Buffer.concat([linkHeader({}), text(attributes.name, name)]),
  };
}

function linkHeader(options: { readonly flags?: number; readonly change?: number }): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt32LE(options.flags ?? 0, 8);
  bytes.writeUInt32LE(options.change ?? 0, 12);
  return bytes;
}
