import type { Draft } from '../../datastore/writer.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { cidrFamily, networksOf, type Cidr } from '../../ip/cidr.ts';
import {
  blockHost,
  isNobodys,
  type AllocationAttributes,
  type Block,
} from '../../model/kinds/block.ts';
import {
  isEmptyBlock,
  newBlock,
  withChangedAllocation,
  withAllocation,
  withoutAllocation,
} from './block.ts';

/**
 * Changes of the three records that must agree: block, affinity, handle. Calico's own code writes them one
 * after the other; here one transaction writes them, so no intermediate state is ever visible.
 */

export function blockKind(family: IpFamily): 'Block4' | 'Block6' {
  return family === 4 ? 'Block4' : 'Block6';
}

export function affinityKind(family: IpFamily): 'Affinity4' | 'Affinity6' {
  return family === 4 ? 'Affinity4' : 'Affinity6';
}

/** Prefix lengths that blocks may have. Source: Calico, libcalico-go/lib/validator/v3. */
export const blockLengths = {
  4: { shortest: 20, longest: 32 },
  6: { shortest: 116, longest: 128 },
} as const;

export function getBlock(draft: Draft, cidr: Cidr): Block | undefined {
  return draft.get(blockKind(cidrFamily(cidr)), cidr);
}

export function putBlock(draft: Draft, block: Block): void {
  draft.put(blockKind(cidrFamily(block.cidr)), block.cidr, block);
}

/** Yields the blocks that contain an address, the smallest first; more than one only if they overlap. */
export function* blocksContaining(draft: Draft, address: IpAddress): Generator<Block> {
  const family = familyOf(address);
  const kind = blockKind(family);
  for (const cidr of networksOf(address, blockLengths[family])) {
    const block = draft.get(kind, cidr);
    if (block !== undefined) yield block;
  }
}

/** Claims a block for a host: affinity and block. An existing block without affinity is taken over. */
export function claimBlock(
  draft: Draft,
  claim: { readonly cidr: Cidr; readonly host: string; readonly now: Date },
): Block {
  const { cidr, host, now } = claim;
  const existing = getBlock(draft, cidr);
  const block =
    existing === undefined
      ? newBlock(cidr, host, now)
      : {
          ...existing,
          affinity: `host:${host}`,
          affinity_claim_time: `${now.toISOString().slice(0, 19)}Z`,
          sequenceNumber: (existing.sequenceNumber ?? 0n) + 1n,
        };
  putBlock(draft, block);
  draft.put(affinityKind(cidrFamily(cidr)), `${host}/${cidr}`, {
    state: 'confirmed',
    deleted: false,
  });
  return block;
}

/** Allocates an address of a block to a holder, and counts it in its handle. */
export function assignInBlock(
  draft: Draft,
  block: Block,
  allocation: { readonly address: IpAddress; readonly holder: AllocationAttributes },
): void {
  putBlock(draft, withAllocation(block, allocation.address, allocation.holder));
  const { handle_id: id } = allocation.holder;
  if (id === undefined) return;
  const handle = draft.getLikelyNew('Handle', id) ?? { block: {}, deleted: false };
  const count = handle.block?.[block.cidr] ?? 0;
  draft.put('Handle', id, { ...handle, block: { ...handle.block, [block.cidr]: count + 1 } });
}

/** Replaces the attributes of an allocated address; its handle stays. */
export function rewriteAllocation(
  draft: Draft,
  block: Block,
  allocation: { readonly address: IpAddress; readonly holder: AllocationAttributes },
): void {
  putBlock(draft, withChangedAllocation(block, allocation.address, allocation.holder));
}

/** Releases an address. A block that becomes empty and has no affinity is deleted. */
export function release(
  draft: Draft,
  block: Block,
  allocation: { readonly address: IpAddress; readonly holder: AllocationAttributes },
): void {
  const freed = withoutAllocation(block, allocation.address);
  const family = cidrFamily(block.cidr);
  if (isEmptyBlock(freed) && isNobodys(freed)) {
    draft.remove(blockKind(family), block.cidr);
  } else {
    putBlock(draft, freed);
  }
  const { handle_id: id } = allocation.holder;
  const handle = id === undefined ? undefined : draft.get('Handle', id);
  if (id === undefined || handle === undefined) return;
  const { [block.cidr]: count = 0, ...others } = handle.block ?? {};
  const left = count > 1 ? { ...others, [block.cidr]: count - 1 } : others;
  if (Object.keys(left).length === 0) draft.remove('Handle', id);
  else draft.put('Handle', id, { ...handle, block: left });
}

/** Deletes a block with everything that refers to it, even if addresses are allocated: for a deleted pool. */
export function removeBlock(draft: Draft, block: Block): void {
  const family = cidrFamily(block.cidr);
  const handles = (block.attributes ?? []).flatMap(({ handle_id: id }) => id ?? []);
  draft.readAhead('Handle', handles);
  for (const { handle_id: id } of block.attributes ?? []) {
    const handle = id === undefined ? undefined : draft.get('Handle', id);
    if (id === undefined || handle === undefined) continue;
    const { [block.cidr]: _, ...others } = handle.block ?? {};
    if (Object.keys(others).length === 0) draft.remove('Handle', id);
    else draft.put('Handle', id, { ...handle, block: others });
  }
  const host = blockHost(block);
  if (host !== undefined) draft.remove(affinityKind(family), `${host}/${block.cidr}`);
  draft.remove(blockKind(family), block.cidr);
}
