import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { familyOf, type IpAddress } from '../../ip/address.ts';
import { cidrContains, cidrFamily, hostCidr, type Cidr } from '../../ip/cidr.ts';
import { blockHost, type AllocationAttributes, type Block } from '../../model/kinds/block.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { allocationOf, nextFree } from '../records/block.ts';
import { userOf } from '../records/allocation.ts';
import { affinityKind, blockKind, blocksContaining, assignInBlock } from '../records/records.ts';
import {
  claimFor,
  claimUsable,
  expectNoOverlap,
  familyOfPools,
  isRelevant,
  unreadableBlocks,
  type BlockRequest,
} from './claim.ts';

/** A request for any address of some pools, or of a range inside one. */
export interface AllocationRequest extends BlockRequest {
  /** Returns the attributes of the allocation, given the address. */
  readonly holder: (address: IpAddress) => AllocationAttributes;
  /** The address to allocate if it is free in one of the host's own blocks. */
  readonly preferred?: IpAddress | undefined;
  /** Reports whether an address of the host's own blocks is allocated only if they have no other. */
  readonly isKept?: (address: IpAddress) => boolean;
}

/**
 * Allocates a free address: from the host's own blocks, from a block that it claims, or, unless affinity is strict,
 * from a block of another host. Returns `undefined` if none is free. Throws `ipam/block-limit`.
 */
export function allocate(draft: Draft, request: AllocationRequest): IpAddress | undefined {
  const config = draft.get('IpamConfig', 'config');
  const { range, reserved, preferred, isKept } = request;
  // An address whose handle cannot be read is not usable.
  const isCounted = (address: IpAddress) =>
    !draft.isUnreadable('Handle', request.holder(address).handle_id ?? '');
  const unreadable = unreadableBlocks(draft, familyOfPools(request.pools) ?? 4);
  const isUsable = (address: IpAddress) =>
    (range === undefined || cidrContains(range, address)) &&
    !reserved.some((network) => cidrContains(network, address)) &&
    userOf(draft, address) === undefined &&
    // Another block may overlap the one that the address is allocated from.
    isFreeEverywhere(draft, address) &&
    unreadable(hostCidr(address)) === undefined &&
    isCounted(address);
  const take = (block: Block, isWilling = isUsable): IpAddress | undefined => {
    const address = nextFree(block, isWilling);
    if (address === undefined) return undefined;
    expectPool(draft, request.pools, address);
    expectNoOverlap(draft, block.cidr);
    assignInBlock(draft, block, { address, holder: request.holder(address) });
    return address;
  };
  const wishes = [
    ...(preferred === undefined
      ? []
      : [(address: IpAddress) => address === preferred && isUsable(address)]),
    ...(isKept === undefined
      ? []
      : [(address: IpAddress) => !isKept(address) && isUsable(address)]),
    isUsable,
  ];
  const own = ownOpenBlocks(draft, request);
  for (const isWilling of wishes) {
    for (const block of own) {
      const address = take(block, isWilling);
      if (address !== undefined) return address;
    }
  }
  const claimed = claimUsable(draft, request, isUsable);
  if (claimed !== undefined) return take(claimed);
  return config?.strict_affinity === true
    ? undefined
    : borrow(draft, request, (block) => take(block));
}

/** The commit holds only if the pool of the address is unchanged. */
function expectPool(draft: Draft, pools: readonly IpPool[], address: IpAddress): void {
  const pool = pools.find(({ spec }) => cidrContains(spec.cidr, address));
  if (pool !== undefined) draft.expect('IPPool', pool.metadata.name);
}

/** Reports whether an address is free in all blocks that contain it; the commit holds only if these are unchanged. */
function isFreeEverywhere(draft: Draft, address: IpAddress): boolean {
  const blocks = expectContaining(draft, address);
  return blocks.every((block) => allocationOf(block, address) === undefined);
}

/** Returns the blocks that contain an address, the smallest first; the commit holds only if they are unchanged. */
function expectContaining(draft: Draft, address: IpAddress): readonly Block[] {
  const blocks = [...blocksContaining(draft, address)];
  for (const { cidr } of blocks) draft.expect(blockKind(cidrFamily(cidr)), cidr);
  return blocks;
}

/**
 * Allocates a specific free address of a pool; throws `ipam/address-elsewhere`, `ipam/block-overlaps` or, if a block
 * that contains the address is unreadable, `datastore/corrupt`. With `isUsersOwn` the address is in use by the holder
 * already, and its block may belong to another host.
 */
export function assign(
  draft: Draft,
  request: {
    readonly node: string;
    readonly address: IpAddress;
    readonly pool: IpPool;
    readonly holder: AllocationAttributes;
    readonly now: Date;
    readonly isUsersOwn?: boolean;
  },
): void {
  const { node, address, pool, now } = request;
  const [existing] = expectContaining(draft, address);
  const block = existing ?? claimFor(draft, { node, address, pool, now });
  if (request.isUsersOwn !== true) checkAffinity(draft, { node, block, address });
  const unreadable = unreadableBlocks(draft, familyOf(address))(hostCidr(address));
  if (unreadable !== undefined) throw unreadable;
  expectPool(draft, [pool], address);
  expectNoOverlap(draft, block.cidr);
  assignInBlock(draft, block, { address, holder: request.holder });
}

/** Throws `ipam/address-elsewhere` if affinity is strict and the block belongs to another host. */
export function checkAffinity(
  draft: Draft,
  {
    node,
    block,
    address,
  }: { readonly node: string; readonly block: Block; readonly address: IpAddress },
): void {
  const owner = blockHost(block);
  const isStrict = draft.get('IpamConfig', 'config')?.strict_affinity === true;
  if (isStrict && owner !== node) {
    throw new CalicoError('ipam/address-elsewhere', { address, owner: owner ?? 'no host' });
  }
}

/** Returns the host's blocks inside the pools and the range that are not full, in key order. */
function ownOpenBlocks(draft: Draft, { node, pools, range }: AllocationRequest): readonly Block[] {
  const family = familyOfPools(pools);
  if (family === undefined) return [];
  return [...draft.group(blockKind(family), node)]
    .map(([, block]) => block)
    .filter(({ cidr }) => isRelevant(cidr, pools, range) && isAffine(draft, node, cidr))
    .toSorted((a, b) => (a.cidr < b.cidr ? -1 : 1));
}

function isAffine(draft: Draft, node: string, cidr: Cidr): boolean {
  return draft.get(affinityKind(cidrFamily(cidr)), `${node}/${cidr}`) !== undefined;
}

/** So many blocks of other hosts are read at once. */
const readTogether = 10;

function borrow(
  draft: Draft,
  request: AllocationRequest,
  take: (block: Block) => IpAddress | undefined,
): IpAddress | undefined {
  const family = familyOfPools(request.pools);
  if (family === undefined) return undefined;
  const kind = blockKind(family);
  const ids: string[] = [];
  for (const [id, { cidr, hasFree }] of draft.briefs(kind)) {
    if (hasFree && isRelevant(cidr, request.pools, request.range)) ids.push(id);
  }
  ids.sort();
  for (const [at, id] of ids.entries()) {
    if (at % readTogether === 0) draft.readAhead(kind, ids.slice(at, at + readTogether));
    const block = draft.get(kind, id);
    const address = block && take(block);
    if (address !== undefined) return address;
  }
  return undefined;
}
