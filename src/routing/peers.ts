import { createHash } from 'node:crypto';
import { addressBits, familyOf, tryParseAddress } from '../ip/address.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { cidrContains, cidrOf, type Cidr } from '../ip/cidr.ts';
import { poolFamily, type IpPool } from '../model/kinds/ip-pool.ts';
import type { Node } from '../model/kinds/node.ts';
import {
  encapsulationOf,
  encapsulationTexts,
  tunnelBy,
  type Encapsulation,
  type Tunnel,
  type TunnelName,
  type TunnelSettings,
} from './tunnels.ts';

/** Nodes as routes and tunnels see them, and how the containers of one node reach those of another. */

/** A node's address on the network between the nodes. */
export interface Underlay {
  readonly address: IpAddress;
  /** Nodes in it reach each other without a router; only the address itself if the Node has no prefix length. */
  readonly subnet: Cidr;
}

/** A node's end of a tunnel. */
export interface TunnelEnd {
  /** The node's own address, to which the packets of the tunnel are sent. */
  readonly underlay: IpAddress;
  /** The address of its interface, from an IP pool. VXLAN: next hop of the routes through the tunnel. */
  readonly address?: IpAddress;
  /** The MAC address of its interface, in lower case; VXLAN only. */
  readonly mac?: string;
}

type ByFamily<Value> = Readonly<Record<IpFamily, Value | undefined>>;

/** A node with its addresses; `undefined` in a family in which the Node has none, or an invalid one. */
export interface Peer {
  readonly name: string;
  readonly underlay: ByFamily<Underlay>;
  /** Only with an address on the network between the nodes, and for VXLAN with a tunnel address. */
  readonly ends: Readonly<Record<TunnelName, TunnelEnd | undefined>>;
}

/** How packets to addresses of a pool get from one node to another. */
export type Reach =
  /** By a route to the peer's own address. */
  | { readonly by: 'direct'; readonly gateway: IpAddress }
  /** Through a tunnel: by a route to the peer's tunnel address (VXLAN), or to its own address (IP-in-IP). */
  | { readonly by: Encapsulation; readonly gateway: IpAddress }
  /** Not by a route of ours; `isRoutable` if routers between the nodes may know the pool. */
  | {
      readonly by: 'none';
      readonly why: string;
      readonly remedy: string;
      readonly isRoutable?: true;
    };

/** Returns a node's addresses. Source: `spec.bgp` and the tunnel fields of the Node, as Felix reads them. */
export function peerOf({ metadata: { name }, spec }: Node): Peer {
  const four = underlayOf(spec.bgp?.ipv4Address, 4);
  const six = underlayOf(spec.bgp?.ipv6Address, 6);
  return {
    name,
    underlay: { 4: four, 6: six },
    ends: {
      vxlan4: vtepOf(spec.ipv4VXLANTunnelAddr, spec.vxlanTunnelMACAddr, {
        name,
        family: 4,
        on: four,
      }),
      vxlan6: vtepOf(spec.ipv6VXLANTunnelAddr, spec.vxlanTunnelMACAddrV6, {
        name,
        family: 6,
        on: six,
      }),
      ipip4: ipipEndOf(spec.bgp?.ipv4IPIPTunnelAddr, four),
    },
  };
}

/** Returns a node without its ends of tunnels that FelixConfiguration disables on it: it neither sends nor receives. */
export function withoutDisabledTunnels(
  peer: Peer,
  { isAllowed }: Pick<TunnelSettings, 'isAllowed'>,
): Peer {
  const { vxlan, ipip } = isAllowed;
  const { vxlan4, vxlan6, ipip4 } = peer.ends;
  return {
    ...peer,
    ends: {
      vxlan4: vxlan ? vxlan4 : undefined,
      vxlan6: vxlan ? vxlan6 : undefined,
      ipip4: ipip ? ipip4 : undefined,
    },
  };
}

/**
 * Returns the MAC address of a node's VXLAN interface if the Node has none: `66` and the first five bytes of the SHA-1
 * of the node's name, with the suffix `-v6` for IPv6. Source: felix/calc/vxlan_resolver.go.
 */
export function vtepMac(name: string, family: IpFamily): string {
  const hash = createHash('sha1').update(family === 4 ? name : `${name}-v6`);
  return ['66', ...(hash.digest('hex').slice(0, 10).match(/../g) ?? [])].join(':');
}

/**
 * Decides how this node reaches addresses of a pool on another node. A route to the peer's own address needs both in
 * one subnet, because a router between them does not know the pool. Source: felix/calc/l3_route_resolver.go, and
 * felix/dataplane/linux/route_mgr.go for the pools without encapsulation whose routes Felix programs without BGP.
 */
export function reachOf(pool: IpPool, own: Peer | undefined, peer: Peer): Reach {
  const family = poolFamily(pool);
  const [from, to] = [own?.underlay[family], peer.underlay[family]];
  if (own === undefined || from === undefined) return addressMissing('this host', family);
  if (to === undefined) return addressMissing(`node ${peer.name}`, family);
  if (from.address === to.address) {
    return {
      by: 'none',
      why: `node ${peer.name} has the address of this host, ${from.address}`,
      remedy: `Correct spec.bgp.ipv${family}Address of one of the two Nodes.`,
    };
  }
  const { by, mode } = encapsulationOf(pool);
  if (mode !== 'Always' && cidrContains(from.subnet, to.address)) {
    return { by: 'direct', gateway: to.address };
  }
  const name = `IP pool ${pool.metadata.name}`;
  if (mode === 'Never') {
    return {
      by: 'none',
      why: `${name} has no encapsulation, and node ${peer.name} (${to.address}) is outside the subnet of this host, ${from.subnet}`,
      remedy: `Set vxlanMode of ${name} to CrossSubnet, or route it on your routers.`,
      isRoutable: true,
    };
  }
  const tunnel = tunnelBy(by, family);
  if (tunnel === undefined) {
    return {
      by: 'none',
      why: `${name} has ipipMode ${mode}, and IP-in-IP carries IPv4 only`,
      remedy: `Set ipipMode of ${name} to Never and vxlanMode to ${mode}.`,
    };
  }
  if (own.ends[tunnel.name] === undefined) return tunnelMissing('this host', tunnel);
  const end = peer.ends[tunnel.name];
  if (end === undefined) return tunnelMissing(`node ${peer.name}`, tunnel);
  return { by, gateway: by === 'vxlan' ? (end.address ?? end.underlay) : end.underlay };
}

function addressMissing(whose: string, family: IpFamily): Reach {
  return {
    by: 'none',
    why: `${whose} has no IPv${family} address`,
    remedy: `Give it one; calico-cnm writes it to spec.bgp.ipv${family}Address of the Node.`,
  };
}

function tunnelMissing(whose: string, { encapsulation, family }: Tunnel): Reach {
  return {
    by: 'none',
    why: `${whose} has no IPv${family} ${encapsulationTexts[encapsulation]} tunnel address yet`,
    remedy: `Its daemon allocates one when it runs, unless FelixConfiguration sets ${encapsulation}Enabled: false; see calico-cnm status there.`,
  };
}

/** Returns an address with its subnet, as in `spec.bgp` of a Node; `undefined` if it is missing or invalid. */
export function underlayOf(stored: string | undefined, family: IpFamily): Underlay | undefined {
  const [text = '', length] = (stored ?? '').split('/');
  const address = tryParseAddress(text);
  if (address === undefined || familyOf(address) !== family) return undefined;
  const prefixLength = length === undefined ? addressBits(family) : Number(length);
  const isLength = Number.isInteger(prefixLength) && prefixLength <= addressBits(family);
  return isLength ? { address, subnet: cidrOf(address, prefixLength) } : undefined;
}

function vtepOf(
  stored: string | undefined,
  mac: string | undefined,
  {
    name,
    family,
    on,
  }: { readonly name: string; readonly family: IpFamily; readonly on: Underlay | undefined },
): TunnelEnd | undefined {
  const address = tryParseAddress(stored ?? '');
  if (on === undefined || address === undefined || familyOf(address) !== family) return undefined;
  const chosen = mac === undefined || mac === '' ? vtepMac(name, family) : mac.toLowerCase();
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(chosen)) return undefined;
  return { address, mac: chosen, underlay: on.address };
}

/** A node without a tunnel address has an end all the same: packets are sent to the node's own address. */
function ipipEndOf(stored: string | undefined, on: Underlay | undefined): TunnelEnd | undefined {
  if (on === undefined) return undefined;
  const address = tryParseAddress(stored ?? '');
  const isAddress = address !== undefined && familyOf(address) === 4;
  return { underlay: on.address, ...(isAddress ? { address } : {}) };
}
