import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import type { AllocationAttributes, Block } from '../../model/kinds/block.ts';
import { allocatedAddresses } from '../records/block.ts';
import { userOf, type AddressFacts } from '../records/allocation.ts';
import { blockKind } from '../records/records.ts';

/**
 * A request for an address may repeat one whose response was lost: Docker's plugin client repeats interrupted calls,
 * and people repeat commands. Nothing in the call distinguishes this from requests of two containers, but Docker
 * requests the address and creates the endpoint under one lock of the network (moby, libnetwork,
 * Network.CreateEndpoint; since 2017). Therefore an allocated address of this network without an endpoint is no longer
 * needed by its requester, and a second container gets `ipam/address-taken` only if the first has its endpoint. Two
 * requests for any address differ only in the container's name, which Docker gives from version 29; with earlier
 * versions an allocation whose response was lost is reclaimed.
 */

/** Reports whether an allocation was made for an earlier request of the same network and has no endpoint. */
export function isUnusedAnswer(
  draft: Draft,
  address: IpAddress,
  { holder, facts }: { readonly holder: AllocationAttributes; readonly facts: AddressFacts },
): boolean {
  const { secondary = {} } = holder;
  const { node, pool, endpoint, holders, container } = secondary;
  const isOfNetwork = node === facts.node && pool === facts.pool;
  if (!isOfNetwork || endpoint !== undefined || holders !== undefined) return false;
  const isOther =
    container !== undefined && facts.container !== undefined && container !== facts.container;
  return !isOther && userOf(draft, address) === undefined;
}

/** Returns the unused address of an earlier request for the same container; `undefined` if the container is unknown. */
export function unusedAnswerFor(
  draft: Draft,
  family: IpFamily,
  facts: AddressFacts,
):
  | { readonly address: IpAddress; readonly block: Block; readonly holder: AllocationAttributes }
  | undefined {
  const { container } = facts;
  if (container === undefined) return undefined;
  for (const [, block] of draft.group(blockKind(family), facts.node)) {
    if (block.attributes?.some(({ secondary }) => secondary?.['container'] === container) !== true)
      continue;
    for (const [address, holder] of allocatedAddresses(block)) {
      if (holder.secondary?.['container'] !== container) continue;
      if (isUnusedAnswer(draft, address, { holder, facts })) return { address, block, holder };
    }
  }
  return undefined;
}
