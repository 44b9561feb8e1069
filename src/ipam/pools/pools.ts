import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import {
  cidrContains,
  cidrCovers,
  cidrFamily,
  cidrSize,
  cidrsOverlap,
  type Cidr,
} from '../../ip/cidr.ts';
import { describeRange, unusableRange } from '../../ip/special-ranges.ts';
import {
  poolFamily,
  poolIsEnabled,
  poolIsManual,
  poolNodeSelector,
  poolServesWorkloads,
  type IpPool,
} from '../../model/kinds/ip-pool.ts';
import { matches } from '../../model/selector/matches.ts';
import { parseSelector } from '../../model/selector/parse.ts';

/** Selection of IP pools for an allocation. Source of the order: Calico, libcalico-go/lib/ipam. */

/** Marks an IP pool that the driver created for a network's subnet; deleted with the last such network. */
export const createdForSubnet = 'docker.projectcalico.org/made-for-subnet';

/** On a pool of Docker's own IPAM: the host whose Docker allocates its addresses. */
export const hostLocal = 'docker.projectcalico.org/host-local';

/** Returns all pools, ordered by name. */
export function allPools(draft: Draft): readonly IpPool[] {
  return [...draft.entries('IPPool')]
    .map(([, pool]) => pool)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/**
 * Returns the pools for a request without a subnet: the named ones, regardless of their node selectors; else all
 * enabled pools for workloads that select this host. Throws `ipam/unknown-pool`, `ipam/pool-not-for-workloads` or `ipam/no-pool`.
 */
export function candidatePools(
  draft: Draft,
  request: {
    readonly node: string;
    readonly family: IpFamily;
    readonly names?: readonly string[] | undefined;
    /** CIDRs of the named pools, in case one has been split since. */
    readonly cidrs?: Readonly<Record<string, Cidr>> | undefined;
  },
): readonly IpPool[] {
  const { node, family, names } = request;
  const enabled = allPools(draft).filter(
    (pool) => poolFamily(pool) === family && poolIsEnabled(pool),
  );
  if (names !== undefined) {
    const pools = names.flatMap((name) => poolsNamed(enabled, name, request.cidrs?.[name]));
    for (const pool of pools) rejectOtherUses(pool);
    return pools;
  }
  const labels = new Map(Object.entries(draft.get('Node', node)?.metadata.labels ?? {}));
  const usable = enabled.filter(
    (pool) =>
      !poolIsManual(pool) &&
      poolServesWorkloads(pool) &&
      !isForOneSubnet(pool) &&
      matches(parseSelector(poolNodeSelector(pool)), labels),
  );
  if (usable.length === 0) throw new CalicoError('ipam/no-pool', { family, node });
  return usable;
}

/** Reports whether a pool was created for a subnet; networks without a subnet do not use it. */
function isForOneSubnet({ metadata }: IpPool): boolean {
  const { annotations = {} } = metadata;
  return createdForSubnet in annotations || hostLocal in annotations;
}

/** Throws `ipam/pool-not-for-workloads`; naming a pool does not override its allowed uses. */
export function rejectOtherUses(pool: IpPool): void {
  if (poolServesWorkloads(pool)) return;
  const uses = pool.spec.allowedUses?.join(', ') ?? '';
  throw new CalicoError('ipam/pool-not-for-workloads', { pool: pool.metadata.name, uses });
}

function poolsNamed(
  enabled: readonly IpPool[],
  name: string,
  cidr: Cidr | undefined,
): readonly IpPool[] {
  const found = enabled.find(({ metadata }) => metadata.name === name);
  if (found !== undefined) return [found];
  const parts = cidr === undefined ? [] : partsOf(enabled, cidr);
  if (parts.length > 0) return parts;
  const known = enabled.map(({ metadata }) => metadata.name).join(', ') || 'none';
  throw new CalicoError('ipam/unknown-pool', { name, known });
}

/**
 * Returns the pools that a pool of this range was split into, by `calicoctl ipam split` or manually; none if they do
 * not cover all of it.
 */
export function partsOf(pools: readonly IpPool[], cidr: Cidr): readonly IpPool[] {
  const parts = pools.filter(({ spec }) => cidrCovers(cidr, spec.cidr));
  const size = parts.reduce((sum, { spec }) => sum + cidrSize(spec.cidr), 0n);
  return size === cidrSize(cidr) ? parts : [];
}

/** Returns the pool that contains an address, enabled or not. */
export function poolOf(draft: Draft, address: IpAddress): IpPool | undefined {
  const family = familyOf(address);
  for (const [, pool] of draft.entries('IPPool')) {
    if (poolFamily(pool) === family && cidrContains(pool.spec.cidr, address)) return pool;
  }
  return undefined;
}

/** Returns a pool that overlaps a network. */
export function poolOverlapping(draft: Draft, network: Cidr): IpPool | undefined {
  return allPools(draft).find((pool) => cidrsOverlap(pool.spec.cidr, network));
}

/** Returns the ranges excluded from automatic allocation. */
export function reservedRanges(draft: Draft): readonly Cidr[] {
  return [...draft.entries('IPReservation')].flatMap(([, { spec }]) => spec.reservedCIDRs ?? []);
}

/** Throws `ipam/special-subnet` for addresses that no container can have. */
export function rejectSpecialSubnet(subnet: Cidr): void {
  const special = unusableRange(subnet);
  if (special === undefined) return;
  const example = cidrFamily(subnet) === 4 ? '10.99.0.0/16' : 'fd00:99::/64';
  throw new CalicoError('ipam/special-subnet', { subnet, range: describeRange(special), example });
}
