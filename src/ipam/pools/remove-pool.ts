import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress } from '../../ip/address.ts';
import { cidrCovers, type Cidr } from '../../ip/cidr.ts';
import { poolFamily, type IpPool } from '../../model/kinds/ip-pool.ts';
import { expectBlocksWithin } from '../blocks/claim.ts';
import { allocatedAddresses, allocationOf } from '../records/block.ts';
import { allPools } from './pools.ts';
import { blockKind, getBlock, release, removeBlock } from '../records/records.ts';

/** Keys per step of a pool's removal; the last object of a step may add as many again. */
const stepKeys = 60;

/**
 * Deletes an IP pool with its blocks, if none was created or changed in the meantime. Blocks inside another pool, which
 * another tool created over this one, stay: its addresses may be in them. If the pool has more blocks than fit in a
 * transaction, only some are deleted and the pool stays: `more` means that the plan must run again.
 */
export function removePool(draft: Draft, pool: IpPool): Progress {
  expectBlocksWithin(draft, pool.spec.cidr);
  let left = stepKeys;
  const kind = blockKind(poolFamily(pool));
  const others = allPools(draft).filter(({ metadata }) => metadata.name !== pool.metadata.name);
  const isInOther = (cidr: Cidr) => others.some(({ spec }) => cidrCovers(spec.cidr, cidr));
  const ids: string[] = [];
  for (const [id, { cidr }] of draft.briefs(kind)) {
    if (cidrCovers(pool.spec.cidr, cidr) && !isInOther(cidr)) ids.push(id);
  }
  // No step has more of them.
  draft.readAhead(kind, ids.slice(0, stepKeys / 2));
  for (const id of ids) {
    const block = draft.get(kind, id);
    if (block === undefined) continue;
    const held = [...allocatedAddresses(block)];
    // The block, its affinity, and a handle for each address at most.
    const keys = held.length + 2;
    if (keys > left && left < stepKeys) return 'more';
    if (keys > stepKeys) {
      for (const [address] of held.slice(0, stepKeys)) releaseHeld(draft, block.cidr, address);
      return 'more';
    }
    removeBlock(draft, block);
    left -= keys;
  }
  draft.remove('IPPool', pool.metadata.name);
  return 'done';
}

function releaseHeld(draft: Draft, cidr: Cidr, address: IpAddress): void {
  const block = getBlock(draft, cidr);
  const holder = block && allocationOf(block, address);
  if (block !== undefined && holder !== undefined) release(draft, block, { address, holder });
}
