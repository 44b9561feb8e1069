import type { IpAddress } from './address.ts';
import { cidrCovers, hostCidr, parseCidr, type Cidr } from './cidr.ts';

/** A special-purpose range, and whether containers may use its addresses. */
export interface SpecialRange {
  readonly cidr: Cidr;
  readonly isAllowed: boolean;
  /** Completes the sentence "CIDR is …". */
  readonly purpose: string;
  /** The defining document. */
  readonly source: string;
}

const allowed = (cidr: string, purpose: string, source: string) =>
  ({ cidr: parseCidr(cidr), isAllowed: true, purpose, source }) satisfies SpecialRange;
const unusable = (cidr: string, purpose: string, source: string) =>
  ({ cidr: parseCidr(cidr), isAllowed: false, purpose, source }) satisfies SpecialRange;

/**
 * Every row of IANA's special-purpose address registries (RFC 6890, RFC 8190), and ranges defined by other documents:
 * multicast, and the deprecated ranges of IPv6. A range is unusable if a Linux host cannot use its addresses for
 * containers (the kernel rejects, drops or never forwards them), or if it belongs to a mechanism without hosts. Ranges
 * that work are allowed even if the registry discourages them: users know their networks.
 */
export const specialRanges: readonly SpecialRange[] = [
  unusable('0.0.0.0/8', '"this network", which is no destination', 'RFC 791'),
  allowed('10.0.0.0/8', 'private use', 'RFC 1918'),
  allowed('100.64.0.0/10', 'shared address space', 'RFC 6598'),
  unusable('127.0.0.0/8', 'loopback, which never leaves a host', 'RFC 1122'),
  unusable('169.254.0.0/16', 'link-local, which is never forwarded', 'RFC 3927'),
  allowed('172.16.0.0/12', 'private use', 'RFC 1918'),
  unusable('192.0.0.0/24', 'reserved for IETF protocols', 'RFC 6890'),
  unusable('192.0.0.0/29', 'reserved for IPv4 service continuity', 'RFC 7335'),
  unusable('192.0.0.8/32', 'the IPv4 dummy address', 'RFC 7600'),
  unusable('192.0.0.9/32', 'Port Control Protocol anycast', 'RFC 7723'),
  unusable('192.0.0.10/32', 'TURN anycast', 'RFC 8155'),
  unusable('192.0.0.170/31', 'NAT64/DNS64 discovery', 'RFC 7050'),
  // The kernel routes the three documentation ranges like any other, and examples use them.
  allowed('192.0.2.0/24', 'documentation', 'RFC 5737'),
  allowed('192.31.196.0/24', 'AS112', 'RFC 7535'),
  allowed('192.52.193.0/24', 'automatic multicast tunneling', 'RFC 7450'),
  allowed('192.88.99.0/24', 'deprecated 6to4 relay anycast', 'RFC 7526'),
  allowed('192.168.0.0/16', 'private use', 'RFC 1918'),
  allowed('192.175.48.0/24', 'AS112 direct delegation', 'RFC 7534'),
  allowed('198.18.0.0/15', 'benchmarking', 'RFC 2544'),
  allowed('198.51.100.0/24', 'documentation', 'RFC 5737'),
  allowed('203.0.113.0/24', 'documentation', 'RFC 5737'),
  unusable('224.0.0.0/4', 'multicast, which no single host can have', 'RFC 5771'),
  // Reserved, but unicast in Linux since 2.6.25; large clusters use it when private addresses run out.
  allowed('240.0.0.0/4', 'reserved for future use', 'RFC 1112'),
  unusable('255.255.255.255/32', 'the limited broadcast address', 'RFC 919'),

  unusable('::/8', 'reserved', 'RFC 4291'),
  unusable('::/128', 'the unspecified address', 'RFC 4291'),
  unusable('::1/128', 'loopback, which never leaves a host', 'RFC 4291'),
  unusable('::/96', 'deprecated IPv4-compatible IPv6', 'RFC 4291'),
  unusable('::ffff:0:0/96', 'IPv4-mapped IPv6, which is IPv4 on the wire', 'RFC 4291'),
  unusable('64:ff9b::/96', 'IPv4 addresses as a NAT64 translates them', 'RFC 6052'),
  unusable('64:ff9b:1::/48', 'IPv4 addresses as a local NAT64 translates them', 'RFC 8215'),
  unusable('100::/64', 'discard-only, which routers drop', 'RFC 6666'),
  unusable('100:0:0:1::/64', 'the IPv6 dummy prefix', 'RFC 9780'),
  unusable('2001::/23', 'reserved for IETF protocols', 'RFC 2928'),
  unusable('2001::/32', 'Teredo', 'RFC 4380'),
  unusable('2001:1::1/128', 'Port Control Protocol anycast', 'RFC 7723'),
  unusable('2001:1::2/128', 'TURN anycast', 'RFC 8155'),
  unusable('2001:1::3/128', 'DNS-SD service registration anycast', 'RFC 9665'),
  allowed('2001:2::/48', 'benchmarking', 'RFC 5180'),
  unusable('2001:3::/32', 'automatic multicast tunneling', 'RFC 7450'),
  unusable('2001:4:112::/48', 'AS112', 'RFC 7535'),
  unusable('2001:10::/28', 'deprecated ORCHID, which is never routed', 'RFC 4843'),
  unusable('2001:20::/28', 'ORCHIDv2, which is never routed', 'RFC 7343'),
  unusable('2001:30::/28', 'remote ID of drones', 'RFC 9374'),
  // Docker's own documentation creates networks in it.
  allowed('2001:db8::/32', 'documentation', 'RFC 3849'),
  allowed('2002::/16', '6to4', 'RFC 3056'),
  allowed('2620:4f:8000::/48', 'AS112 direct delegation', 'RFC 7534'),
  allowed('3fff::/20', 'documentation', 'RFC 9637'),
  unusable('5f00::/16', 'SRv6 segment identifiers', 'RFC 9602'),
  allowed('fc00::/7', 'unique local', 'RFC 4193'),
  unusable('fe80::/10', 'link-local, which is never forwarded', 'RFC 4291'),
  allowed('fec0::/10', 'deprecated site-local, which is global unicast now', 'RFC 3879'),
  unusable('ff00::/8', 'multicast, which no single host can have', 'RFC 4291'),
];

/**
 * Returns the unusable range that a network of containers must not be in; `undefined` if none. The smallest range that
 * covers the network decides; an unusable range inside it counts too.
 */
export function unusableRange(network: Cidr): SpecialRange | undefined {
  const holders = specialRanges.filter(({ cidr }) => cidrCovers(cidr, network));
  const [smallest] = holders.toSorted((a, b) => (cidrCovers(a.cidr, b.cidr) ? 1 : -1));
  if (smallest?.isAllowed === false) return smallest;
  return specialRanges.find(({ cidr, isAllowed }) => !isAllowed && cidrCovers(network, cidr));
}

/** Returns the range that an address must not be in as a next hop, which may be link-local; `undefined` if none. */
export function unusableNextHop(address: IpAddress): SpecialRange | undefined {
  const range = unusableRange(hostCidr(address));
  return range !== undefined && linkLocal.has(range.cidr) ? undefined : range;
}

const linkLocal: ReadonlySet<string> = new Set(['169.254.0.0/16', 'fe80::/10']);

/** `127.0.0.0/8 is loopback, which never leaves a host (RFC 1122)`. */
export function describeRange({ cidr, purpose, source }: SpecialRange): string {
  return `${cidr} is ${purpose} (${source})`;
}
