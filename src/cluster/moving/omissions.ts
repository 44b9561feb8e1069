import { cidrsOverlap, type Cidr } from '../../ip/cidr.ts';
import { isEmptyBlock } from '../../ipam/records/block.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { poolBlockSize } from '../../model/kinds/ip-pool.ts';
import { valuesOf, type StoredItem } from '../joining/stored-items.ts';

/**
 * Returns the keys that are not copied into a datastore of other hosts, because it has what they stand for: an IP pool
 * of the same range and block size under any name, unless `namedPools` has the name; and a block without addresses,
 * with its affinity, where it has a block itself.
 */
export function omittedKeys(
  source: readonly StoredItem[],
  target: readonly StoredItem[],
  namedPools: ReadonlySet<string>,
): ReadonlySet<string> {
  const theirPools = valuesOf(target, 'IPPool');
  const ranges = new Set([...theirPools.values()].map(rangeOf));
  const omitted = new Set<string>();
  for (const [name, pool] of valuesOf(source, 'IPPool')) {
    const isKnown = !namedPools.has(name) || theirPools.has(name);
    if (isKnown && ranges.has(rangeOf(pool))) omitted.add(entryTypeOf.IPPool.key(name));
  }
  for (const family of [4, 6] as const) {
    const [blocks, affinities] = [`Block${family}`, `Affinity${family}`] as const;
    const theirs = [...valuesOf(target, blocks).values()].map(({ cidr }) => cidr);
    const empty = new Set<Cidr>();
    for (const [id, block] of valuesOf(source, blocks)) {
      if (!isEmptyBlock(block) || !theirs.some((one) => cidrsOverlap(one, block.cidr))) continue;
      empty.add(block.cidr);
      omitted.add(entryTypeOf[blocks].key(id));
    }
    for (const id of valuesOf(source, affinities).keys()) {
      const cidr = id.slice(id.indexOf('/') + 1);
      if ([...empty].some((one) => one === cidr)) omitted.add(entryTypeOf[affinities].key(id));
    }
  }
  return omitted;
}

function rangeOf(pool: Parameters<typeof poolBlockSize>[0]): string {
  return `${pool.spec.cidr} ${poolBlockSize(pool)}`;
}
