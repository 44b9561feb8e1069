import { isDeepStrictEqual } from 'node:util';
import type { IpAddress } from '../../ip/address.ts';
import { addressAt, cidrSize, offsetIn, type Cidr } from '../../ip/cidr.ts';
import type { AllocationAttributes, Block } from '../../model/kinds/block.ts';

/**
 * The allocator inside one block: pure functions from a block to the next one. Numbers of addresses inside
 * the block are ordinals. Source: Calico, libcalico-go/lib/ipam/ipam_block.go.
 */

/** Returns an empty block claimed by a host. `now` gives its first sequence number, in nanoseconds since 1970. */
export function newBlock(cidr: Cidr, host: string, now: Date): Block {
  const size = Number(cidrSize(cidr));
  return {
    cidr,
    affinity: `host:${host}`,
    affinity_claim_time: `${now.toISOString().slice(0, 19)}Z`,
    allocations: Array.from({ length: size }, () => null),
    unallocated: Array.from({ length: size }, (_, ordinal) => ordinal),
    attributes: [],
    sequenceNumber: BigInt(now.getTime()) * 1_000_000n,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
}

/** Returns the attributes of an address's allocation; `undefined` if it is free. */
export function allocationOf(block: Block, address: IpAddress): AllocationAttributes | undefined {
  const index = block.allocations[ordinalOf(block, address)];
  return index === null || index === undefined ? undefined : (block.attributes?.[index] ?? {});
}

/** Yields the allocated addresses with their attributes. */
export function* allocatedAddresses(
  block: Block,
): Generator<readonly [address: IpAddress, holder: AllocationAttributes]> {
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) continue;
    yield [addressAt(block.cidr, BigInt(ordinal)), block.attributes?.[index] ?? {}];
  }
}

export function isEmptyBlock(block: Block): boolean {
  return block.allocations.every((index) => index === null);
}

/** Returns the next free address that is usable; `undefined` if there is none. */
export function nextFree(
  block: Block,
  isUsable: (address: IpAddress) => boolean,
): IpAddress | undefined {
  for (const ordinal of block.unallocated ?? []) {
    // An address that is both allocated and listed as free is allocated.
    if (block.allocations[ordinal] !== null) continue;
    const address = addressAt(block.cidr, BigInt(ordinal));
    if (isUsable(address)) return address;
  }
  return undefined;
}

/** Returns the block with a free address allocated to a holder. */
export function withAllocation(
  block: Block,
  address: IpAddress,
  holder: AllocationAttributes,
): Block {
  const ordinal = ordinalOf(block, address);
  const attributes = [...(block.attributes ?? [])];
  let index = attributes.findIndex(
    (known) => known.handle_id === holder.handle_id && isDeepStrictEqual(known, holder),
  );
  if (index < 0) index = attributes.push(holder) - 1;
  const sequenceNumber = block.sequenceNumber ?? 0n;
  return {
    ...block,
    allocations: block.allocations.with(ordinal, index),
    unallocated: (block.unallocated ?? []).filter((free) => free !== ordinal),
    attributes,
    sequenceNumber: sequenceNumber + 1n,
    sequenceNumberForAllocation: {
      ...block.sequenceNumberForAllocation,
      [ordinal]: sequenceNumber,
    },
  };
}

/** Returns the block with other attributes for an allocated address; its time of allocation stays. */
export function withChangedAllocation(
  block: Block,
  address: IpAddress,
  holder: AllocationAttributes,
): Block {
  const ordinal = ordinalOf(block, address);
  const since = block.sequenceNumberForAllocation?.[ordinal];
  const changed = withAllocation(withoutAllocation(block, address), address, holder);
  if (since === undefined) return changed;
  return {
    ...changed,
    sequenceNumberForAllocation: { ...changed.sequenceNumberForAllocation, [ordinal]: since },
  };
}

/** Returns the block with an address released, which is allocated last; unused attributes are dropped. */
export function withoutAllocation(block: Block, address: IpAddress): Block {
  const ordinal = ordinalOf(block, address);
  const allocations = block.allocations.with(ordinal, null);
  const used = new Set(allocations);
  const kept = (block.attributes ?? []).map((_, index) => index).filter((index) => used.has(index));
  const { [ordinal]: _, ...sequenceNumberForAllocation } = block.sequenceNumberForAllocation ?? {};
  return {
    ...block,
    allocations: allocations.map((index) => (index === null ? null : kept.indexOf(index))),
    unallocated: [...(block.unallocated ?? []).filter((free) => free !== ordinal), ordinal],
    attributes: kept.map((index) => block.attributes?.[index] ?? {}),
    sequenceNumber: (block.sequenceNumber ?? 0n) + 1n,
    sequenceNumberForAllocation,
  };
}

/** Returns the number of an address in its block. */
export function ordinalOf(block: Block, address: IpAddress): number {
  return Number(offsetIn(block.cidr, address));
}
