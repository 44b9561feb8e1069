import { cidrsOverlap, parseCidr, type Cidr } from '../../ip/cidr.ts';
import type { UsedRange } from '../../ipam/pools/default-pools.ts';
import { hostLocal } from '../../ipam/pools/pools.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** What Docker can be told to take its own networks from; the first that is free is proposed. */
const proposals = [
  ['172.16.0.0/12', 24],
  ['192.168.0.0/16', 24],
  ['10.192.0.0/10', 24],
  ['100.64.0.0/10', 24],
] as const;

/**
 * Where IP pools meet networks of this host. One that overlaps now, such as a bridge network that was made
 * later, is not well: the host sends to whichever route is longer. That Docker may take such a range for its
 * next network is said only. Networks whose range Docker itself chose for us are not meant.
 */
export function rangeOverlaps(
  pools: readonly IpPool[],
  host: { readonly connected: readonly UsedRange[]; readonly dockerPools: readonly UsedRange[] },
): Check[] {
  const ours = pools.filter(({ metadata }) => metadata.annotations?.[hostLocal] === undefined);
  const line = proposedLine(pools, host.connected);
  return ours.flatMap(({ metadata: { name }, spec: { cidr } }): Check[] => {
    const pool = `IP pool ${name} (${cidr})`;
    const now = host.connected.find((range) => cidrsOverlap(range.cidr, cidr));
    if (now !== undefined) {
      return [
        {
          name: 'ranges',
          ok: false,
          detail: `${now.what} (${now.cidr}) overlaps ${pool}`,
          remedy: `Exclude the range from Docker: set ${line} in /etc/docker/daemon.json and restart Docker. If it is a Docker network, recreate it then.`,
        },
      ];
    }
    const later = host.dockerPools.find((range) => cidrsOverlap(range.cidr, cidr));
    if (later === undefined) return [];
    const detail = `Docker may use a range of ${pool} for its next bridge network; to exclude it, set ${line} in /etc/docker/daemon.json`;
    return [{ name: 'ranges', ok: true, detail }];
  });
}

function proposedLine(pools: readonly IpPool[], connected: readonly UsedRange[]): string {
  const outside = connected.filter(({ what }) => !/ (docker0|br-[0-9a-f]{12})$/.test(what));
  const taken: readonly Cidr[] = [
    ...pools.map(({ spec }) => spec.cidr),
    ...outside.map(({ cidr }) => cidr),
  ];
  const [base, size] =
    proposals.find(([one]) => !taken.some((cidr) => cidrsOverlap(cidr, parseCidr(one)))) ??
    proposals[0];
  return `"default-address-pools": [{"base": "${base}", "size": ${size}}]`;
}
