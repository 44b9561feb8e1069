import { addressFromBytes, familyOf, type IpAddress } from '../../ip/address.ts';
import { address, attribute, nest, readAttributes, readText, text, u32, u8 } from './attributes.ts';

/** The kinds of virtual links, with their attributes at creation. Source: linux/if_link.h, if_tunnel.h. */
export type LinkKind =
  /** A pair of which this is one end; the message that describes the other. */
  | { readonly kind: 'veth'; readonly peer: Uint8Array }
  /** Packets are forwarded by routes, neighbours and the forwarding database: no learning. */
  | {
      readonly kind: 'vxlan';
      readonly vni: number;
      /** UDP port; Linux itself would take 8472. */
      readonly port: number;
      readonly local: IpAddress;
      /** Index of the interface that carries it; without one the routes say. */
      readonly under?: number;
    }
  /** IPv4 in IPv4; without a remote end each route names one, and without both it is as the kernel's own `tunl0`. */
  | { readonly kind: 'ipip'; readonly local?: IpAddress; readonly remote?: IpAddress }
  /** Keys and peers are set afterwards, by another family of netlink. */
  | { readonly kind: 'wireguard' }
  /** Routes of the interfaces below it are looked up in a table of its own. */
  | { readonly kind: 'vrf'; readonly table: number };

const infoKind = 1;
const infoData = 2;
const vethPeer = 1;
const vxlan = {
  vni: 1,
  group4: 2,
  under: 3,
  local4: 4,
  learning: 7,
  port: 15,
  group6: 16,
  local6: 17,
};
const tunnel = { local: 2, remote: 3, pathMtuDiscovery: 10 };
const vrfTable = 1;

/** The attributes inside IFLA_LINKINFO. */
export function encodeKind(link: LinkKind): readonly Buffer[] {
  const data = encodeData(link);
  return [text(infoKind, link.kind), ...(data.length === 0 ? [] : [nest(infoData, data)])];
}

function encodeData(link: LinkKind): readonly Buffer[] {
  if (link.kind === 'veth') return [attribute(vethPeer, link.peer)];
  if (link.kind === 'vrf') return [u32(vrfTable, link.table)];
  if (link.kind === 'ipip') {
    const { local, remote } = link;
    return [
      ...(local === undefined ? [] : [address(tunnel.local, local)]),
      ...(remote === undefined ? [] : [address(tunnel.remote, remote)]),
      // Otherwise the outer packet has the flag "don't fragment" of the inner one.
      u8(tunnel.pathMtuDiscovery, local === undefined && remote === undefined ? 0 : 1),
    ];
  }
  if (link.kind === 'wireguard') return [];
  return [
    u32(vxlan.vni, link.vni),
    address(familyOf(link.local) === 4 ? vxlan.local4 : vxlan.local6, link.local),
    u8(vxlan.learning, 0),
    attribute(vxlan.port, Buffer.of(link.port >> 8, link.port & 0xff)),
    ...(link.under === undefined ? [] : [u32(vxlan.under, link.under)]),
  ];
}

/**
 * The kind of a link with the attributes that can be compared with the desired ones; the kernel does not report the
 * peer of a veth.
 */
export type ToldKind = Exclude<LinkKind, { kind: 'veth' }> | { readonly kind: 'veth' };

/**
 * From IFLA_LINKINFO; `undefined` for a link of any other kind, for one with missing attributes, and for a VXLAN that
 * learns or floods, which ours never do.
 */
export function readKind(info: Buffer): ToldKind | undefined {
  const found = readAttributes(info);
  const data = readAttributes(found.get(infoData) ?? Buffer.alloc(0));
  const kind = readText(found.get(infoKind) ?? Buffer.alloc(0));
  switch (kind) {
    case 'veth':
    case 'wireguard':
      return { kind };
    case 'vxlan': {
      const local = readLocal(data.get(vxlan.local4) ?? data.get(vxlan.local6));
      const vni = data.get(vxlan.vni)?.readUInt32LE(0);
      const port = data.get(vxlan.port)?.readUInt16BE(0);
      const under = data.get(vxlan.under)?.readUInt32LE(0);
      if (local === undefined || vni === undefined || port === undefined) return undefined;
      const floods = readLocal(data.get(vxlan.group4) ?? data.get(vxlan.group6)) !== undefined;
      if (floods || data.get(vxlan.learning)?.[0] === 1) return undefined;
      return { kind, vni, port, local, ...(under === undefined ? {} : { under }) };
    }
    case 'ipip': {
      const [local, remote] = [tunnel.local, tunnel.remote].map((one) => readLocal(data.get(one)));
      return {
        kind,
        ...(local === undefined ? {} : { local }),
        ...(remote === undefined ? {} : { remote }),
      };
    }
    case 'vrf': {
      const table = data.get(vrfTable)?.readUInt32LE(0);
      return table === undefined ? undefined : { kind, table };
    }
    default:
      return undefined;
  }
}

/** The kind's name, from IFLA_LINKINFO; `undefined` without one. */
export function readKindName(info: Buffer): string | undefined {
  const name = readAttributes(info).get(infoKind);
  return name === undefined ? undefined : readText(name);
}

/** An address; none where all of it is zero. */
function readLocal(bytes: Buffer | undefined): IpAddress | undefined {
  return bytes === undefined || bytes.every((byte) => byte === 0)
    ? undefined
    : addressFromBytes(bytes);
}
