import { existsSync, readFileSync } from 'node:fs';
import { listAddresses } from '../dataplane/netlink/address.ts';
import { listLinks } from '../dataplane/netlink/link.ts';
import { listRoutes } from '../dataplane/netlink/route.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import { cidrOf, parseCidr, splitCidr, type Cidr } from '../ip/cidr.ts';
import { dockerDefaultRanges, type UsedRange } from '../ipam/pools/default-pools.ts';

/** What the daemon asks of the networks of the host it runs on. */

const dockerConfig = '/etc/docker/daemon.json';
const smallestMtu = 576;
const usualMtu = 1500;

/** MTU of the interface of the default route, in bytes; 1500 without one. */
export function defaultMtuBytes(rtnetlink: NetlinkSocket): number {
  const route = listRoutes(rtnetlink, { family: 4 }).find(
    ({ destination, table }) => destination === '0.0.0.0/0' && table === 254,
  );
  const link = listLinks(rtnetlink).find(({ index }) => index === route?.linkIndex);
  return Math.max(smallestMtu, link?.mtuBytes ?? usualMtu);
}

/** Ranges that a default pool must keep away from: the host's addresses and routes, and Docker's pools. */
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

/** The networks that interfaces of this host are in, but for containers' own: by the routes that need no gateway. */
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
        return isOther && name !== '' && !name.startsWith('cali')
          ? [{ cidr: destination, what: `the network of interface ${name}` }]
          : [];
      }),
  );
}

/** What Docker takes the ranges of its own networks from. */
export function dockerAddressPools(): readonly UsedRange[] {
  const configured = configuredDockerPools();
  return configured.length > 0 ? configured : dockerDefaultRanges;
}

/** `default-address-pools` of Docker's configuration; a file that cannot be read says nothing. */
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

/** Whether the kernel has IPv6 at all. */
export function hasIpv6(): boolean {
  return existsSync('/proc/sys/net/ipv6/conf/all/forwarding');
}
