import type { ChainTable, FilterChain } from '../../dataplane/netlink/nftables-chains.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Tables of iptables-nft, where our rules come first, and of firewalld, which has its own check. */
const known = new Set(['filter', 'security', 'mangle', 'raw', 'nat', 'firewalld']);
const interfaces = 'cali';

/**
 * Reports nftables chains of other programs that drop by default. A packet accepted by one base chain can still be dropped
 * by the next, so that such a chain disconnects containers. Chains with a rule for our interfaces are not reported.
 */
export function otherChainChecks(
  list: (isIncluded: (table: ChainTable) => boolean) => readonly FilterChain[],
): readonly Check[] {
  return list(isOfOthers)
    .filter(({ dropsTheRest, mentions }) => dropsTheRest && !mentions(interfaces))
    .map(checkOf);
}

function isOfOthers({ family, table }: ChainTable): boolean {
  return !known.has(table) || (family === 'inet' && table === 'filter');
}

function checkOf({ family, table, name, hook }: FilterChain): Check {
  const chain = `${family} ${table} ${name}`;
  if (hook === 'forward') {
    return {
      name: 'nftables',
      ok: false,
      detail: `chain ${chain} drops forwarded packets by default; containers have no connectivity`,
      remedy: `Accept container traffic in this chain and in the file that defines it (docs/firewalls.md): nft insert rule ${chain} oifname "cali*" accept; nft insert rule ${chain} iifname "cali*" accept`,
    };
  }
  return {
    name: 'nftables',
    ok: true,
    detail:
      hook === 'input'
        ? `chain ${chain} applies to traffic from containers to this host; IPv6 of containers needs icmpv6 from cali* there (docs/firewalls.md)`
        : `chain ${chain} applies to traffic from this host to containers (docs/firewalls.md)`,
  };
}
