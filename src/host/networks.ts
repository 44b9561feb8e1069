import { existsSync, readFileSync } from 'node:fs';
import { listAddresses } from '../dataplane/netlink/address.ts';
import { listLinks } from '../dataplane/netlink/link.ts';
import { listRoutes } from '../dataplane/netlink/route.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import type { IpAddress } from '../ip/address.ts';
import { cidrOf, parseCidr, splitCidr, type Cidr } from '../ip/cidr.ts';
import { dockerDefaultRanges, type UsedRange } from '../ipam/pools/default-pools.ts';
import type { Uplinks } from '../dataplane/uplinks.ts';

/** Network properties of this host. */

const dockerConfig = '/etc/docker/daemon.json';
const smallestMtu = 576;
const usualMtu = 1500;

/**
 * Returns the uplinks: the interface of the default route, and those with the addresses by which other hosts reach this
 * one. Their MTU is the smallest; 1500 bytes without either.
 */
export function uplinksOf(rtnetlink: NetlinkSocket, ownAddresses: readonly IpAddress[]): Uplinks {
  const route = listRoutes(rtnetlink, { family: 4 }).find(
    ({ destination, table }) => destination === '0.0.0.0/0' && table === 254,
  );
  const indexes = listAddresses(rtnetlink)
    .filter(({ address }) => ownAddresses.includes(address))
    .map(({ linkIndex }) => linkIndex);
  const uplinks = new Set([
    ...(route?.linkIndex === undefined ? [] : [route.linkIndex]),
    ...indexes,
  ]);
  const sizes = listLinks(rtnetlink)
    .filter(({ index }) => uplinks.has(index))
    .map(({ mtuBytes }) => mtuBytes);
  const least = Math.min(...(sizes.length === 0 ? [usualMtu] : sizes));
  return { mtuBytes: Math.max(smallestMtu, least), indexes: uplinks };
}

/** Returns the ranges that a default pool must not overlap: the host's addresses and routes, and Docker's pools. */
export function rangesInUse(rtnetlink: NetlinkSocket): readonly UsedRange[] {
  const addresses = listAddresses(rtnetlink).map(({ address, prefixLength }) => ({
    cidr: cidrOf(address, prefixLength),
    what: 'an address of this host',
  }));
  const routes = ([4, 6] as const).flatMap((family) =>
    listRoutes(rtnetlink, { family })
      .filter(({ destination }) => splitCidr(destination).prefixLength > 0)
      .map(({ destination }) => ({ cidr: destination, what: 'a route of this host' })),
  );
  return [...addresses, ...routes, ...dockerDefaultRanges, ...configuredDockerPools()];
}

/** Calico's own interfaces: those of containers, and the tunnels, whose addresses are from the IP pools. */
const ofCalico = /^(cali|(vxlan|vxlan-v6)\.calico$|tunl0$|wireguard\.cali$|wg-v6\.cali$)/;

/** Returns the networks of this host's interfaces, except Calico's own: those with routes that need no gateway. */
export function connectedRanges(rtnetlink: NetlinkSocket): readonly UsedRange[] {
  const names = new Map(listLinks(rtnetlink).map(({ index, name }) => [index, name]));
  return ([4, 6] as const).flatMap((family) =>
    listRoutes(rtnetlink, { family })
      .filter(
        ({ table, type, gateway }) => table === 254 && type === 'unicast' && gateway === undefined,
      )
      .flatMap(({ destination, linkIndex }) => {
        const name = names.get(linkIndex ?? 0) ?? '';
        const isOther = splitCidr(destination).prefixLength > 0 && !destination.startsWith('fe80:');
        return isOther && name !== '' && !ofCalico.test(name)
          ? [{ cidr: destination, what: `the network of interface ${name}` }]
          : [];
      }),
  );
}

/** Returns the pools from which Docker allocates its own networks. */
export function dockerAddressPools(): readonly UsedRange[] {
  const configured = configuredDockerPools();
  return configured.length > 0 ? configured : dockerDefaultRanges;
}

/** Returns `default-address-pools` of Docker's configuration; nothing if the file cannot be read. */
function configuredDockerPools(): readonly UsedRange[] {
  try {
    const parsed: unknown = JSON.parse(readFileSync(dockerConfig, 'utf8'));
    if (typeof parsed !== 'object' || parsed === null) return [];
    const pools: unknown = 'default-address-pools' in parsed ? parsed['default-address-pools'] : [];
    if (!Array.isArray(pools)) return [];
    return pools.flatMap((pool: unknown) => {
      const base = typeof pool === 'object' && pool !== null && 'base' in pool ? pool.base : '';
      return [{ cidr: cidrOfBase(String(base)), what: `default-address-pools of ${dockerConfig}` }];
    });
  } catch {
    return [];
  }
}

function cidrOfBase(base: string): Cidr {
  return parseCidr(base);
}

/** Reports whether the kernel supports IPv6. */
export function hasIpv6(): boolean {
  return existsSync('/proc/sys/net/ipv6/conf/all/forwarding');
}
