import { listAddresses, type InterfaceAddress } from '../../dataplane/netlink/address.ts';
import { listLinks, type Link } from '../../dataplane/netlink/link.ts';
import { lookUpRoute } from '../../dataplane/netlink/route-lookup.ts';
import type { NetlinkSocket } from '../../dataplane/netlink/socket.ts';
import { familyOf, isLoopback, type IpAddress } from '../../ip/address.ts';
import { cidrContains, parseCidr } from '../../ip/cidr.ts';
import { endpointAddresses, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Maximum number of host addresses to look up. */
const maxAddresses = 16;
const linkLocal6 = parseCidr('fe80::/10');

/** The links, addresses and route lookup of this host. */
export interface HostRouting {
  readonly links: () => readonly Pick<Link, 'name' | 'index'>[];
  readonly addresses: () => readonly Pick<InterfaceAddress, 'linkIndex' | 'address'>[];
  readonly lookUp: (packet: {
    readonly destination: IpAddress;
    readonly source: IpAddress;
  }) => ReturnType<typeof lookUpRoute>;
}

export function hostRoutingOf(rtnetlink: NetlinkSocket): HostRouting {
  return {
    links: () => listLinks(rtnetlink),
    addresses: () => listAddresses(rtnetlink),
    lookUp: (packet) => lookUpRoute(rtnetlink, packet),
  };
}

/**
 * Checks whether packets from each address of this host are routed to containers. Source-based routing rules (two
 * uplinks, VPN clients) select tables that have no routes to containers. Looks up one container of each family.
 */
export function hostRoutingChecks(
  host: HostRouting,
  endpoints: readonly WorkloadEndpoint[],
): readonly Check[] {
  if (endpoints.length === 0) return [];
  const links = new Map(host.links().map(({ name, index }) => [name, index]));
  const containers = endpoints.flatMap((endpoint) => {
    const linkIndex = links.get(endpoint.spec.interfaceName);
    if (linkIndex === undefined) return [];
    return endpointAddresses(endpoint).map((address) => ({ address, linkIndex }));
  });
  const containerLinks = new Set(containers.map(({ linkIndex }) => linkIndex));
  const hostAddresses = host
    .addresses()
    .filter(({ linkIndex, address }) => !containerLinks.has(linkIndex) && isGlobal(address))
    .slice(0, maxAddresses);
  return ([4, 6] as const).flatMap((family): readonly Check[] => {
    const container = containers.find(({ address }) => familyOf(address) === family);
    if (container === undefined) return [];
    const unrouted = hostAddresses.flatMap(({ address: source }) => {
      if (familyOf(source) !== family) return [];
      const found = host.lookUp({ destination: container.address, source });
      return found?.linkIndex === container.linkIndex ? [] : [{ source, table: found?.table }];
    });
    const [first] = unrouted;
    if (first === undefined) return [];
    const sources = unrouted.map(({ source }) => source).join(', ');
    const command = family === 4 ? 'ip' : 'ip -6';
    const table = first.table === undefined ? 'a table' : `table ${first.table}`;
    return [
      {
        name: 'host routing',
        ok: false,
        detail: `a routing rule of this host (${command} rule) sends traffic from ${sources} to ${table}, which has no routes to containers; from these addresses the host and containers cannot reach each other`,
        remedy: `Look up addresses of containers in the main table first, for each IP pool: ${command} rule add to POOL lookup main priority 100`,
      },
    ];
  });
}

function isGlobal(address: IpAddress): boolean {
  return !isLoopback(address) && !cidrContains(linkLocal6, address);
}
