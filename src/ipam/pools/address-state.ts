import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { allocate, assign, type AllocationRequest } from '../blocks/allocate.ts';
import { addressTaken, findAllocation, userOf, type Allocation } from '../records/allocation.ts';
import { poolOf, rejectOtherUses, reservedRanges } from './pools.ts';

/** State of an address, read once by a plan, which then decides and changes pool, block and handle. */
export interface AddressState {
  readonly address: IpAddress;
  /** The pool that contains it, enabled or not. */
  readonly pool: IpPool | undefined;
  /** Its allocation; `undefined` if it is free. */
  readonly allocation: Allocation | undefined;
}

export function addressState(draft: Draft, address: IpAddress): AddressState {
  return { address, pool: poolOf(draft, address), allocation: findAllocation(draft, address) };
}

/**
 * Allocates any free address of the pools that is not reserved; `undefined` if none is free. Throws
 * `ipam/pool-not-for-workloads`, `ipam/block-limit` or `ipam/no-new-blocks`.
 */
export function allocateAny(
  draft: Draft,
  request: Omit<AllocationRequest, 'reserved'>,
): IpAddress | undefined {
  for (const pool of request.pools) rejectOtherUses(pool);
  return allocate(draft, { ...request, reserved: reservedRanges(draft) });
}

/**
 * Allocates one address; throws `ipam/address-taken`, `-outside`, `-elsewhere` or `ipam/block-overlaps`. An address
 * that an endpoint of any host uses is taken, even if its block lists it as free, unless `isUsersOwn` is set.
 */
export function allocateAddress(
  draft: Draft,
  { address, pool, allocation }: AddressState,
  request: {
    readonly node: string;
    readonly holder: AllocationAttributes;
    readonly now: Date;
    readonly isUsersOwn?: boolean;
  },
): void {
  if (pool === undefined) {
    throw new CalicoError('ipam/address-outside', { address, where: 'any IP pool' });
  }
  if (allocation !== undefined) throw addressTaken(draft, address, allocation.holder);
  if (request.isUsersOwn !== true && userOf(draft, address) !== undefined) {
    throw addressTaken(draft, address, {});
  }
  assign(draft, { ...request, address, pool });
}
