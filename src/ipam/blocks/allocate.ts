import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { addressBits, familyOf, type IpAddress } from '../../ip/address.ts';
import {
  cidrContains,
  cidrCovers,
  cidrFamily,
  cidrOf,
  cidrsOverlap,
  splitCidr,
  subnetAt,
  type Cidr,
} from '../../ip/cidr.ts';
import {
  blockHost,
  hasFree,
  type AllocationAttributes,
  type Block,
} from '../../model/kinds/block.ts';
import type { IpamConfig } from '../../model/kinds/ipam-config.ts';
import { poolBlockSize, type IpPool } from '../../model/kinds/ip-pool.ts';
import { holderOf, isEmptyBlock, newBlock, nextFree } from '../records/block.ts';
import { addressTaken, userOf } from '../records/holder.ts';
import {
  blocksHolding,
  blocksOfOtherSizes,
  expectNoOverlap,
  unreadableBlocks,
} from './overlapping-blocks.ts';
import { poolOf, reservedRanges } from '../pools/pools.ts';
import {
  affinityKind,
  blockKind,
  claimBlock,
  getBlock,
  hold,
  removeBlock,
} from '../records/records.ts';

/** An address that is wanted: any of some pools, or of a range inside one. */
export interface AllocationRequest {
  readonly node: string;
  readonly pools: readonly IpPool[];
  /** Only addresses of this range; all of the pools if absent. */
  readonly range?: Cidr | undefined;
  /** Who is to hold it, given the address. */
  readonly holder: (address: IpAddress) => AllocationAttributes;
  readonly now: Date;
}

const defaultBlockLimit = 20;
const reclaimAfterMs = 60_000;

/**
 * Takes a free address: from the host's own blocks, from a block that it claims, or, unless affinity is strict,
 * from a block of another host. Answers `undefined` if all are taken. Throws `ipam/block-limit`.
 */
export function allocate(draft: Draft, request: AllocationRequest): IpAddress | undefined {
  const config = draft.get('IpamConfig', 'config');
  const reserved = reservedRanges(draft);
  const handles = draft.unreadable('Handle');
  const { range } = request;
  // An address whose handle cannot be read is not to be had.
  const isCounted = (address: IpAddress) =>
    handles.size === 0 || !handles.has(request.holder(address).handle_id ?? '');
  const isUsable = (address: IpAddress) =>
    (range === undefined || cidrContains(range, address)) &&
    !reserved.some((network) => cidrContains(network, address)) &&
    userOf(draft, address) === undefined &&
    isCounted(address);
  const take = (block: Block): IpAddress | undefined => {
    const address = nextFree(block, isUsable);
    if (address === undefined) return undefined;
    expectPool(draft, request.pools, address);
    hold(draft, block, { address, holder: request.holder(address) });
    return address;
  };
  for (const block of ownOpenBlocks(draft, request)) {
    const address = take(block);
    if (address !== undefined) return address;
  }
  const claimed = claimUsable(draft, request, { config, reserved, isUsable });
  if (claimed !== undefined) return take(claimed);
  return config?.strict_affinity === true ? undefined : borrow(draft, request, take);
}

/** An address is given out only as long as its pool is as it was read. */
function expectPool(draft: Draft, pools: readonly IpPool[], address: IpAddress): void {
  const pool = pools.find(({ spec }) => cidrContains(spec.cidr, address));
  if (pool !== undefined) draft.expect('IPPool', pool.metadata.name);
}

/**
 * Gives one address to a holder; throws `ipam/address-taken`, `-outside`, `-elsewhere` or `ipam/block-overlaps`. What
 * an endpoint of any host uses is taken, whatever the blocks say, unless the caller knows it to be the holder's.
 */
export function assign(
  draft: Draft,
  request: {
    readonly node: string;
    readonly address: IpAddress;
    readonly holder: AllocationAttributes;
    readonly now: Date;
    readonly isUsersOwn?: boolean;
  },
): void {
  const { node, address, now } = request;
  const pool = poolOf(draft, address);
  if (pool === undefined) {
    throw new CalicoError('ipam/address-outside', { address, where: 'any IP pool' });
  }
  for (const block of blocksHolding(draft, address)) {
    const present = holderOf(block, address);
    if (present !== undefined) throw addressTaken(draft, address, present);
  }
  if (request.isUsersOwn !== true && userOf(draft, address) !== undefined) {
    throw addressTaken(draft, address, {});
  }
  const [existing] = blocksHolding(draft, address);
  const block = existing ?? claimFor(draft, { node, address, pool, now });
  if (request.isUsersOwn !== true) checkAffinity(draft, { node, block, address });
  expectPool(draft, [pool], address);
  hold(draft, block, { address, holder: request.holder });
}

/** Claims the block that one address lies in; throws `ipam/block-overlaps`. */
function claimFor(
  draft: Draft,
  request: {
    readonly node: string;
    readonly address: IpAddress;
    readonly pool: IpPool;
    readonly now: Date;
  },
): Block {
  const { node, address, pool, now } = request;
  const blockSize = poolBlockSize(pool);
  const cidr = cidrOf(address, blockSize);
  const others = blocksOfOtherSizes(draft, { family: familyOf(address), blockSize })(cidr);
  const used = others.find((other) => !isEmptyBlock(other));
  if (used !== undefined) {
    throw new CalicoError('ipam/block-overlaps', { address, cidr, other: used.cidr });
  }
  return claimFree(draft, { cidr, others, node, now });
}

/** Claims a block in the place of empty ones of other sizes; throws `datastore/corrupt` for one that cannot be read. */
function claimFree(
  draft: Draft,
  {
    cidr,
    others,
    node,
    now,
  }: {
    readonly cidr: Cidr;
    readonly others: readonly Block[];
    readonly node: string;
    readonly now: Date;
  },
): Block {
  const unreadable = unreadableBlocks(draft, cidrFamily(cidr))(cidr);
  if (unreadable !== undefined) throw unreadable;
  for (const other of others) removeBlock(draft, other);
  expectNoOverlap(draft, cidr);
  return claimBlock(draft, { cidr, host: node, now });
}

/** Throws `ipam/address-elsewhere` where affinity is strict and the block is another host's. */
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

function isRelevant(cidr: Cidr, pools: readonly IpPool[], range: Cidr | undefined): boolean {
  const isInPool = pools.some((pool) => cidrCovers(pool.spec.cidr, cidr));
  return isInPool && (range === undefined || cidrsOverlap(range, cidr));
}

/** The host's blocks inside the pools and the range that are not full, in the order of their keys. */
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

/** How many blocks inside the pools and the range the host has, full ones too. */
function countOwnBlocks(draft: Draft, { node, pools, range }: AllocationRequest): number {
  const family = familyOfPools(pools);
  if (family === undefined) return 0;
  let count = 0;
  for (const [id] of draft.group(affinityKind(family), node)) {
    const block = draft.get(blockKind(family), id.slice(node.length + 1));
    if (block === undefined || blockHost(block) !== node) continue;
    if (isRelevant(block.cidr, pools, range)) count++;
  }
  return count;
}

function claimUsable(
  draft: Draft,
  request: AllocationRequest,
  limits: {
    readonly config: IpamConfig | undefined;
    readonly reserved: readonly Cidr[];
    readonly isUsable: (address: IpAddress) => boolean;
  },
): Block | undefined {
  const { node, now } = request;
  const { config, reserved, isUsable } = limits;
  const owned = countOwnBlocks(draft, request);
  if (config !== undefined && config.auto_allocate_blocks !== true) {
    throw new CalicoError('ipam/no-new-blocks', { node });
  }
  const limit = config?.maxBlocksPerHost ?? 0;
  const most = limit === 0 ? defaultBlockLimit : limit;
  const overlapping = overlapsIn(draft);
  const family = familyOfPools(request.pools) ?? 4;
  const unreadable = unreadableBlocks(draft, family);
  const unreadableClaims = draft.unreadable(affinityKind(family));
  const isFresh = (cidr: Cidr) => getBlock(draft, cidr) === undefined;
  const isReclaimable = (cidr: Cidr) => {
    const block = getBlock(draft, cidr);
    return block !== undefined && blockHost(block) !== node && isAbandoned(block, now);
  };
  for (const isCandidate of [isFresh, isReclaimable]) {
    for (const cidr of blockOrder(request)) {
      if (!isCandidate(cidr) || unreadable(cidr) !== undefined) continue;
      if (unreadableClaims.has(`${node}/${cidr}`)) continue;
      // Spares looking at each address of a pool that is reserved as a whole.
      if (reserved.some((network) => cidrCovers(network, cidr))) continue;
      const others = overlapping(cidr);
      if (!others.every(isEmptyBlock)) continue;
      const isAnyUsable = nextFree(newBlock(cidr, node, now), isUsable) !== undefined;
      if (!isAnyUsable) continue;
      if (owned >= most) throw new CalicoError('ipam/block-limit', { node, limit: most });
      const former = getBlock(draft, cidr);
      const formerHost = former === undefined ? undefined : blockHost(former);
      if (formerHost !== undefined) {
        draft.remove(affinityKind(cidrFamily(cidr)), `${formerHost}/${cidr}`);
      }
      return claimFree(draft, { cidr, others, node, now });
    }
  }
  return undefined;
}

/** The blocks of other sizes that share addresses with a network; those of one size are looked for once. */
function overlapsIn(draft: Draft): (cidr: Cidr) => readonly Block[] {
  const bySize = new Map<number, (cidr: Cidr) => readonly Block[]>();
  return (cidr) => {
    const blockSize = splitCidr(cidr).prefixLength;
    const known = bySize.get(blockSize);
    const overlaps = known ?? blocksOfOtherSizes(draft, { family: cidrFamily(cidr), blockSize });
    if (known === undefined) bySize.set(blockSize, overlaps);
    return overlaps(cidr);
  };
}

/** An empty block whose host has held it for a minute may be taken over when nothing else is free. */
function isAbandoned(block: Block, now: Date): boolean {
  if (!isEmptyBlock(block)) return false;
  const since = Date.parse(block.affinity_claim_time ?? '');
  return Number.isNaN(since) || now.getTime() - since >= reclaimAfterMs;
}

function borrow(
  draft: Draft,
  request: AllocationRequest,
  take: (block: Block) => IpAddress | undefined,
): IpAddress | undefined {
  const family = familyOfPools(request.pools);
  if (family === undefined) return undefined;
  const blocks = [...draft.entries(blockKind(family))]
    .map(([, block]) => block)
    .filter((block) => hasFree(block) && isRelevant(block.cidr, request.pools, request.range))
    .toSorted((a, b) => (a.cidr < b.cidr ? -1 : 1));
  for (const block of blocks) {
    const address = take(block);
    if (address !== undefined) return address;
  }
  return undefined;
}

/** More blocks than this are not looked through; a pool of that size is not full. */
const mostBlocksTried = 1 << 16;

/** Every block of the pools and the range once, beginning at a place that differs from host to host. */
function* blockOrder({ node, pools, range }: AllocationRequest): Generator<Cidr> {
  for (const pool of pools) {
    const size = poolBlockSize(pool);
    const within =
      range !== undefined && cidrCovers(pool.spec.cidr, range) ? range : pool.spec.cidr;
    const { prefixLength, address } = splitCidr(within);
    if (prefixLength >= size) {
      yield cidrOf(address, size);
      continue;
    }
    const count = 1n << BigInt(size - prefixLength);
    const start = BigInt(fnv1(node)) % count;
    for (let step = 0n; step < count && step < mostBlocksTried; step++) {
      yield subnetAt(within, size, (start + step) % count);
    }
  }
}

/** FNV-1, 32 bits, as Calico seeds its order of blocks. */
export function fnv1(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = (Math.imul(hash, 0x01000193) ^ byte) >>> 0;
  return hash;
}

function familyOfPools(pools: readonly IpPool[]) {
  const [first] = pools;
  return first === undefined ? undefined : cidrFamily(first.spec.cidr);
}

/** The address with its full prefix, as Docker wants it. */
export function asHost(address: IpAddress): string {
  return `${address}/${addressBits(familyOf(address))}`;
}
