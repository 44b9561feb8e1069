import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import type { AllocationAttributes, Block } from '../../model/kinds/block.ts';
import { allocatedAddresses } from '../records/block.ts';
import { userOf, type AddressFacts } from '../records/allocation.ts';
import { blockKind } from '../records/records.ts';

/**
 * A request for an address may be the repetition of one whose answer was lost: Docker's plugin client repeats calls
 * that broke off, and people repeat commands. It says nothing by which the two could be told apart from requests of
 * two containers, but Docker asks for an address and makes the endpoint under one lock of the network (moby,
 * libnetwork, Network.CreateEndpoint; since 2017). So whoever asked before for an address of this network that no
 * endpoint has does not want it any more, and a second container that asks while the first has its endpoint is told
 * who has it. A request for any address can be told from another container's by the container's name alone, which
 * Docker gives from version 29 on; before, what a lost answer gave out is collected.
 */

/** Whether an allocation is what a request of the same network got before, and made no endpoint of. */
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

/** The address that a request for the same container got before; `undefined` where the container is not known. */
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
