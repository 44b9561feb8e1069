import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import {
  addressAt,
  cidrCovers,
  cidrFamily,
  cidrOf,
  cidrsOverlap,
  parseCidr,
  networksOf,
  splitCidr,
  subnetAt,
  type Cidr,
} from '../../ip/cidr.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import type { BriefBlock } from '../../model/briefs.ts';
import { blockHost, type Block } from '../../model/kinds/block.ts';
import { poolBlockSize, type IpPool } from '../../model/kinds/ip-pool.ts';
import { newBlock, nextFree } from '../records/block.ts';
import {
  affinityKind,
  blockKind,
  blockLengths,
  claimBlock,
  getBlock,
  removeBlock,
} from '../records/records.ts';

/** Claims of blocks by a host. Source of order and limit: Calico, libcalico-go/lib/ipam. */

/** A request for a block of some pools. */
export interface BlockRequest {
  readonly node: string;
  readonly pools: readonly IpPool[];
  /** Only addresses of this range; all of the pools if absent. */
  readonly range?: Cidr | undefined;
  /** Ranges excluded from allocation. */
  readonly reserved: readonly Cidr[];
  readonly now: Date;
}

const defaultBlockLimit = 20;
const reclaimAfterMs = 60_000;

/** Counts the host's blocks inside the pools and the range, including full ones. */
function countOwnBlocks(draft: Draft, { node, pools, range }: BlockRequest): number {
  const family = familyOfPools(pools);
  if (family === undefined) return 0;
  let count = 0;
  for (const [id] of draft.group(affinityKind(family), node)) {
    const block = draft.brief(blockKind(family), id.slice(node.length + 1));
    if (block?.host !== node) continue;
    if (isRelevant(block.cidr, pools, range)) count++;
  }
  return count;
}

/**
 * Claims a block of the pools that has a usable address: an unclaimed one, else one that another host left empty for a
 * minute. Throws `ipam/no-new-blocks` or `ipam/block-limit`.
 */
export function claimUsable(
  draft: Draft,
  request: BlockRequest,
  isUsable: (address: IpAddress) => boolean,
): Block | undefined {
  const { node, now, reserved } = request;
  const config = draft.get('IpamConfig', 'config');
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
  const isFresh = (cidr: Cidr) => draft.brief(blockKind(family), cidr) === undefined;
  const isReclaimable = (cidr: Cidr) => {
    const block = draft.brief(blockKind(family), cidr);
    return block !== undefined && block.host !== node && isAbandoned(block, now);
  };
  for (const isCandidate of [isFresh, isReclaimable]) {
    for (const cidr of blockOrder(request)) {
      if (!isCandidate(cidr) || unreadable(cidr) !== undefined) continue;
      if (unreadableClaims.has(`${node}/${cidr}`)) continue;
      // Avoids checking each address of a block that is reserved as a whole.
      if (reserved.some((network) => cidrCovers(network, cidr))) continue;
      const others = overlapping(cidr);
      if (!others.every(({ held }) => held === 0n)) continue;
      const isAnyUsable = nextFree(newBlock(cidr, node, now), isUsable) !== undefined;
      if (!isAnyUsable) continue;
      if (owned >= most) throw new CalicoError('ipam/block-limit', { node, limit: most });
      // What is held in brief is read here and below; all this is then decided once more, by the whole.
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

/** Returns the blocks of other sizes that overlap a network; each size is searched once. */
function overlapsIn(draft: Draft): (cidr: Cidr) => readonly BriefBlock[] {
  const bySize = new Map<number, (cidr: Cidr) => readonly BriefBlock[]>();
  return (cidr) => {
    const blockSize = splitCidr(cidr).prefixLength;
    const known = bySize.get(blockSize);
    const overlaps = known ?? blocksOfOtherSizes(draft, { family: cidrFamily(cidr), blockSize });
    if (known === undefined) bySize.set(blockSize, overlaps);
    return overlaps(cidr);
  };
}

/** Reports whether a block is empty and was claimed over a minute ago: it may be claimed if no other is free. */
function isAbandoned({ held, claimedAt = '' }: BriefBlock, now: Date): boolean {
  if (held !== 0n) return false;
  const since = Date.parse(claimedAt);
  return Number.isNaN(since) || now.getTime() - since >= reclaimAfterMs;
}

/** Claims the block that contains an address; throws `ipam/block-overlaps`. */
export function claimFor(
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
  const used = others.find(({ held }) => held !== 0n);
  if (used !== undefined) {
    throw new CalicoError('ipam/block-overlaps', { address, cidr, other: used.cidr });
  }
  return claimFree(draft, { cidr, others, node, now });
}

/** Claims a block, replacing empty ones of other sizes; throws `datastore/corrupt` for an unreadable one. */
function claimFree(
  draft: Draft,
  {
    cidr,
    others,
    node,
    now,
  }: {
    readonly cidr: Cidr;
    readonly others: readonly BriefBlock[];
    readonly node: string;
    readonly now: Date;
  },
): Block {
  const unreadable = unreadableBlocks(draft, cidrFamily(cidr))(cidr);
  if (unreadable !== undefined) throw unreadable;
  for (const other of others) {
    const block = getBlock(draft, other.cidr);
    if (block !== undefined) removeBlock(draft, block);
  }
  expectNoOverlap(draft, cidr);
  return claimBlock(draft, { cidr, host: node, now });
}

/** Reports whether a block is in one of the pools and overlaps the range. */
export function isRelevant(cidr: Cidr, pools: readonly IpPool[], range: Cidr | undefined): boolean {
  const isInPool = pools.some((pool) => cidrCovers(pool.spec.cidr, cidr));
  return isInPool && (range === undefined || cidrsOverlap(range, cidr));
}

/** Maximum of blocks tried; a pool of that size is not full. */
const maxBlocksTried = 1 << 16;

/** Yields every block of the pools and the range once, starting at a position that depends on the host. */
function* blockOrder({ node, pools, range }: BlockRequest): Generator<Cidr> {
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
    for (let step = 0n; step < count && step < maxBlocksTried; step++) {
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

export function familyOfPools(pools: readonly IpPool[]) {
  const [first] = pools;
  return first === undefined ? undefined : cidrFamily(first.spec.cidr);
}

/*
 * Blocks of different sizes that overlap: after a pool was recreated with another block size, or if two
 * pools overlap. Both would allocate the same addresses, so a block is claimed only if it overlaps none.
 */

/** Returns a lookup, for networks of one size, of the blocks of other sizes that overlap one. */
export function blocksOfOtherSizes(
  draft: Draft,
  { family, blockSize }: { readonly family: IpFamily; readonly blockSize: number },
): (network: Cidr) => readonly BriefBlock[] {
  const kind = blockKind(family);
  const smaller = new Map<Cidr, BriefBlock[]>();
  for (const [, brief] of draft.briefs(kind)) {
    const { address, prefixLength } = splitCidr(brief.cidr);
    if (prefixLength <= blockSize) continue;
    const network = cidrOf(address, blockSize);
    smaller.set(network, [...(smaller.get(network) ?? []), brief]);
  }
  return (network) => {
    const larger: BriefBlock[] = [];
    for (const cidr of largerBlocks(network)) {
      const block = draft.brief(kind, cidr);
      if (block !== undefined) larger.push(block);
    }
    return [...larger, ...(smaller.get(network) ?? [])];
  };
}

/**
 * Returns the error of an unreadable block that overlaps a network, which therefore cannot be claimed;
 * `undefined` if there is none. Searched once for many networks, because such blocks are few.
 */
export function unreadableBlocks(
  draft: Draft,
  family: IpFamily,
): (network: Cidr) => CalicoError | undefined {
  const kind = blockKind(family);
  const unreadable = [...draft.unreadable(kind)].flatMap(([id, why]) => {
    const cidr = cidrOrNone(id);
    return cidr === undefined ? [] : [{ cidr, key: entryTypeOf[kind].key(id), why }];
  });
  return (network) => {
    const found = unreadable.find(({ cidr }) => cidrsOverlap(cidr, network));
    return found && new CalicoError('datastore/corrupt', { key: found.key, why: found.why });
  };
}

/** The network part of a key may be any text. */
function cidrOrNone(text: string): Cidr | undefined {
  try {
    return parseCidr(text);
  } catch {
    return undefined;
  }
}

/** The commit holds only if no block inside this network was created in the meantime. */
export function expectBlocksWithin(draft: Pick<Draft, 'expectNoNew'>, network: Cidr): void {
  const kind = blockKind(cidrFamily(network));
  for (const prefix of idPrefixes(network)) draft.expectNoNew(kind, prefix);
}

/** The commit holds only if no block that overlaps this network was created in the meantime. */
export function expectNoOverlap(draft: Pick<Draft, 'expect' | 'expectNoNew'>, network: Cidr): void {
  const kind = blockKind(cidrFamily(network));
  const prefixes = idPrefixes(network);
  for (const prefix of prefixes) draft.expectNoNew(kind, prefix);
  for (const larger of largerBlocks(network)) {
    if (!prefixes.some((prefix) => larger.startsWith(prefix))) draft.expect(kind, larger);
  }
}

/** Returns the networks of larger blocks that would contain a block, from the smallest on. */
function largerBlocks(block: Cidr): Iterable<Cidr> {
  const { address, prefixLength } = splitCidr(block);
  const { shortest } = blockLengths[cidrFamily(block)];
  return networksOf(address, { longest: prefixLength - 1, shortest });
}

/**
 * Returns the prefixes of the ids of all blocks inside a network: its leading octets or hextets as written, as many
 * as possible, so that blocks elsewhere may change.
 */
function idPrefixes(network: Cidr): readonly string[] {
  const { address, prefixLength } = splitCidr(network);
  if (cidrFamily(network) === 4) {
    const octets = address.split('.', Math.min(Math.floor(prefixLength / 8), 3));
    return [octets.map((octet) => `${octet}.`).join('')];
  }
  // How many zeros `::` stands for differs from address to address; all of a larger network have only this in common.
  if (prefixLength < 112) return [''];
  const within = cidrOf(address, 112);
  const second = addressAt(within, 1n);
  return [`${splitCidr(within).address}/`, second.slice(0, second.lastIndexOf(':') + 1)];
}
