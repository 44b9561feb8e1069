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
      detail: `the chain ${chain} drops forwarded packets that its own rules do not accept, so containers reach nothing, whatever their Profiles say`,
      remedy: `Accept them there, and in the file that makes the chain (docs/firewalls.md): nft insert rule ${chain} oifname "cali*" accept; nft insert rule ${chain} iifname "cali*" accept`,
    };
  }
  return {
    name: 'nftables',
    ok: true,
    detail:
      hook === 'input'
        ? `the chain ${chain} decides on what containers send to this host; IPv6 of containers needs icmpv6 from cali* there (docs/firewalls.md)`
        : `the chain ${chain} decides on what this host sends to containers (docs/firewalls.md)`,
  };
}
