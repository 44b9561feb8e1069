import { cidrsOverlap, parseCidr, type Cidr } from '../../ip/cidr.ts';
import type { UsedRange } from '../../ipam/pools/default-pools.ts';
import { hostLocal } from '../../ipam/pools/pools.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Ranges for Docker's own networks; the remedy proposes the first free one. */
const proposals = [
  ['172.16.0.0/12', 24],
  ['192.168.0.0/16', 24],
  ['10.192.0.0/10', 24],
  ['100.64.0.0/10', 24],
] as const;

/**
 * Reports overlaps of IP pools and networks of this host. The check fails for an existing network, such as a bridge
 * network created later, because the longer prefix wins. A range that Docker may use for its next network is only
 * reported. Pools whose range Docker chose for a Calico network are excluded.
 */
export function rangeOverlaps(
  pools: readonly IpPool[],
  host: { readonly connected: readonly UsedRange[]; readonly dockerPools: readonly UsedRange[] },
): Check[] {
  const checked = pools.filter(({ metadata }) => metadata.annotations?.[hostLocal] === undefined);
  const setting = proposedSetting(pools, host.connected);
  return checked.flatMap(({ metadata: { name }, spec: { cidr } }): Check[] => {
    const pool = `IP pool ${name} (${cidr})`;
    const now = host.connected.find((range) => cidrsOverlap(range.cidr, cidr));
    if (now !== undefined) {
      return [
        {
          name: 'ranges',
          ok: false,
          detail: `${now.what} (${now.cidr}) overlaps ${pool}`,
          remedy: `Exclude the range from Docker: set ${setting} in /etc/docker/daemon.json and restart Docker. If it is a Docker network, recreate it then.`,
        },
      ];
    }
    const later = host.dockerPools.find((range) => cidrsOverlap(range.cidr, cidr));
    if (later === undefined) return [];
    const detail = `Docker may use a range of ${pool} for its next bridge network; to exclude it, set ${setting} in /etc/docker/daemon.json`;
    return [{ name: 'ranges', ok: true, detail }];
  });
}

function proposedSetting(pools: readonly IpPool[], connected: readonly UsedRange[]): string {
  const outside = connected.filter(({ what }) => !/ (docker0|br-[0-9a-f]{12})$/.test(what));
  const used: readonly Cidr[] = [
    ...pools.map(({ spec }) => spec.cidr),
    ...outside.map(({ cidr }) => cidr),
  ];
  const [base, size] =
    proposals.find(([one]) => !used.some((cidr) => cidrsOverlap(cidr, parseCidr(one)))) ??
    proposals[0];
  return `"default-address-pools": [{"base": "${base}", "size": ${size}}]`;
}
