import type { ChainTable, FilterChain } from '../../dataplane/netlink/nftables-chains.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Tables that iptables-nft keeps, where our own rules come first; and those of firewalld, which has a line of its own. */
const known = new Set(['filter', 'security', 'mangle', 'raw', 'nat', 'firewalld']);
const interfaces = 'cali';

/**
 * Chains of others in nftables that drop what no rule of theirs accepts: what one chain accepts, the next one may still
 * drop, so they cut containers off. A chain in which a rule names our interfaces has been told of them.
 */
export function otherChainChecks(
  list: (isAsked: (table: ChainTable) => boolean) => readonly FilterChain[],
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
