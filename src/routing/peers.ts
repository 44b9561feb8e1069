import { createHash } from 'node:crypto';
import { addressBits, familyOf, tryParseAddress } from '../ip/address.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { cidrContains, cidrOf, type Cidr } from '../ip/cidr.ts';
import { poolFamily, type IpPool } from '../model/kinds/ip-pool.ts';
import type { Node } from '../model/kinds/node.ts';

/** Nodes as routes and tunnels see them, and how the containers of one node reach those of another. */

/** A node's address on the network between the nodes. */
export interface Underlay {
  readonly address: IpAddress;
  /** Nodes in it reach each other without a router; only the address itself if the Node has no prefix length. */
  readonly subnet: Cidr;
}

/** A node's VXLAN tunnel endpoint in one address family. */
export interface Vtep {
  /** The address of the VXLAN interface, from an IP pool: next hop of the routes through the tunnel. */
  readonly address: IpAddress;
  /** The MAC address of the VXLAN interface, in lower case. */
  readonly mac: string;
  /** The node's own address, to which the packets of the tunnel are sent. */
  readonly underlay: IpAddress;
}

type ByFamily<Value> = Readonly<Record<IpFamily, Value | undefined>>;

/** A node with its addresses; `undefined` in a family in which the Node has none, or an invalid one. */
export interface Peer {
  readonly name: string;
  readonly underlay: ByFamily<Underlay>;
  /** Only with an address on the network between the nodes. */
  readonly vtep: ByFamily<Vtep>;
}

/** How packets to addresses of a pool get from one node to another. */
export type Reach =
  /** By a route to the peer's own address. */
  | { readonly by: 'direct'; readonly gateway: IpAddress }
  /** Through the VXLAN tunnel, by a route to the peer's tunnel address. */
  | { readonly by: 'vxlan'; readonly gateway: IpAddress }
  /** Not by a route of ours; `isRoutable` if routers between the nodes may know the pool. */
  | {
      readonly by: 'none';
      readonly why: string;
      readonly remedy: string;
      readonly isRoutable?: true;
    };

/** The VXLAN interface of each address family, named as in Felix. */
export const vxlanDevices: Readonly<Record<IpFamily, string>> = {
  4: 'vxlan.calico',
  6: 'vxlan-v6.calico',
};

/** Returns a node's addresses. Source: `spec.bgp` and the tunnel fields of the Node, as Felix reads them. */
export function peerOf({ metadata: { name }, spec }: Node): Peer {
  const four = underlayOf(spec.bgp?.ipv4Address, 4);
  const six = underlayOf(spec.bgp?.ipv6Address, 6);
  return {
    name,
    underlay: { 4: four, 6: six },
    vtep: {
      4: vtepOf(spec.ipv4VXLANTunnelAddr, spec.vxlanTunnelMACAddr, { name, family: 4, on: four }),
      6: vtepOf(spec.ipv6VXLANTunnelAddr, spec.vxlanTunnelMACAddrV6, { name, family: 6, on: six }),
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
  const { isIpip, mode } = encapsulationOf(pool);
  if (mode !== 'Always' && cidrContains(from.subnet, to.address)) {
    return { by: 'direct', gateway: to.address };
  }
  const name = `IP pool ${pool.metadata.name}`;
  if (isIpip) {
    return {
      by: 'none',
      why: `${name} has ipipMode ${mode}, and calico-cnm does not create IP-in-IP tunnels yet`,
      remedy: `Set ipipMode of ${name} to Never and vxlanMode to ${mode}.`,
    };
  }
  if (mode === 'Never') {
    return {
      by: 'none',
      why: `${name} has no encapsulation, and node ${peer.name} (${to.address}) is outside the subnet of this host, ${from.subnet}`,
      remedy: `Set vxlanMode of ${name} to CrossSubnet, or route it on your routers.`,
      isRoutable: true,
    };
  }
  if (own.vtep[family] === undefined) return tunnelMissing('this host', family);
  const vtep = peer.vtep[family];
  if (vtep === undefined) return tunnelMissing(`node ${peer.name}`, family);
  return { by: 'vxlan', gateway: vtep.address };
}

/** Returns the encapsulation of a pool. */
export function encapsulationOf({ spec }: IpPool): {
  readonly isIpip: boolean;
  readonly mode: 'Never' | 'Always' | 'CrossSubnet';
} {
  const ipip = spec.ipipMode === undefined || spec.ipipMode === '' ? 'Never' : spec.ipipMode;
  const vxlan = spec.vxlanMode === undefined || spec.vxlanMode === '' ? 'Never' : spec.vxlanMode;
  return ipip === 'Never' ? { isIpip: false, mode: vxlan } : { isIpip: true, mode: ipip };
}

function addressMissing(whose: string, family: IpFamily): Reach {
  return {
    by: 'none',
    why: `${whose} has no IPv${family} address`,
    remedy: `Give it one; calico-cnm writes it to spec.bgp.ipv${family}Address of the Node.`,
  };
}

function tunnelMissing(whose: string, family: IpFamily): Reach {
  return {
    by: 'none',
    why: `${whose} has no IPv${family} VXLAN tunnel address yet`,
    remedy:
      'Its daemon allocates one when it runs, unless FelixConfiguration sets vxlanEnabled: false; see calico-cnm status there.',
  };
}

function underlayOf(stored: string | undefined, family: IpFamily): Underlay | undefined {
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
): Vtep | undefined {
  const address = tryParseAddress(stored ?? '');
  if (on === undefined || address === undefined || familyOf(address) !== family) return undefined;
  const chosen = mac === undefined || mac === '' ? vtepMac(name, family) : mac.toLowerCase();
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(chosen)) return undefined;
  return { address, mac: chosen, underlay: on.address };
}
