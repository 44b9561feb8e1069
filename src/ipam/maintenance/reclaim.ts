import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress } from '../../ip/address.ts';
import { allocatedAddresses } from '../records/block.ts';
import type { Block } from '../../model/kinds/block.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import { isLiving, sharersOf, swarmSharer } from '../docker/addresses.ts';
import { findAllocation } from '../records/allocation.ts';
import { claimsOn, isVoid, putClaims, releaseUser } from '../docker/claims.ts';
import { poolIdsOfNetworks, releasePool } from '../docker/docker-pools.ts';
import { parsePoolId } from '../docker/pool-id.ts';
import { release, rewriteAllocation } from '../records/records.ts';
import { poolsOfNetwork } from '../docker/swarm-addresses.ts';

/** Something of this host that has no owner any more. */
export type Leak =
  | {
      readonly kind: 'address';
      readonly address: IpAddress;
      readonly handle: string;
      /** The endpoint that had it. */
      readonly endpoint: string | undefined;
    }
  /** Claims of Swarm managers that count no more. */
  | { readonly kind: 'claim'; readonly address: IpAddress; readonly claims: readonly string[] }
  | { readonly kind: 'pool'; readonly poolId: string; readonly node: string };

/** What names a find in two looks at the same thing. */
export function leakKey(find: Leak): string {
  if (find.kind === 'pool') return `pool ${find.poolId}`;
  const what = find.kind === 'claim' ? find.claims.join(',') : find.handle;
  return `${find.kind} ${find.address} ${what}`;
}

/** What Docker says of Swarm on this host: whether it is a manager, and which networks there are if it knows. */
export interface SwarmFacts {
  readonly isManager: boolean;
  readonly networks?: ReadonlySet<string>;
}

/**
 * Addresses of this host that no endpoint and no pool record has, claims of managers that count no more, and pool
 * records that no network has. What was asked for a moment ago looks the same, so a find counts only if it is
 * still one some time later.
 */
export function findLeaks(
  draft: Draft,
  node: string,
  swarm: SwarmFacts = { isManager: true },
): readonly Leak[] {
  const finds: Leak[] = [];
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const [, block] of draft.entries(kind)) {
      if (!mayConcern(block, node)) continue;
      for (const [address, holder] of allocatedAddresses(block)) {
        const { secondary = {}, handle_id: handle = '' } = holder;
        const claims = claimsOn(holder).filter((claim) => isVoid(draft, claim));
        if (claims.length > 0) finds.push({ kind: 'claim', address, claims });
        if (secondary['pool'] === undefined) continue;
        const isLost =
          sharersOf(holder) === undefined
            ? secondary['node'] === node && !isLiving(draft, node, secondary['endpoint'] ?? '')
            : lostSharers(draft, node, sharersOf(holder) ?? []).length > 0;
        if (isLost) {
          finds.push({ kind: 'address', address, handle, endpoint: secondary['endpoint'] });
        }
      }
    }
  }
  const used = poolIdsOfNetworks(draft, node);
  for (const [, record] of draft.group('DockerPool', node)) {
    const { poolId } = record;
    const isOver = record.swarm === undefined ? !used.has(poolId) : isAbandoned(record, swarm);
    if (isOver) finds.push({ kind: 'pool', poolId, node });
    // The pools that one of this host's replaced may be those of a host that never comes back.
    if (isOver || record.swarm?.network === undefined) continue;
    for (const replaced of poolsOfNetwork(draft, record.swarm.network)) {
      const isElsewhere = replaced.node !== node && replaced.swarm?.isReplaced === true;
      if (isElsewhere) finds.push({ kind: 'pool', poolId: replaced.poolId, node: replaced.node });
    }
  }
  return finds;
}

/**
 * Whether an address of the block may be one that this host has to look after: its own, one that hosts share, or one
 * that managers of Swarm claim. Mostly those of other hosts are not, and there may be thousands of them.
 */
function mayConcern({ attributes }: Block, node: string): boolean {
  return (attributes ?? []).some(
    ({ secondary }) =>
      secondary !== undefined &&
      (secondary['node'] === node ||
        secondary['holders'] !== undefined ||
        secondary['swarm'] !== undefined),
  );
}

/** Whether a pool of this host's manager has no network any more: replaced, never tied to one, or the network is gone. */
function isAbandoned({ swarm }: DockerPool, { isManager, networks }: SwarmFacts): boolean {
  if (!isManager || swarm?.network === undefined || swarm.isReplaced === true) return true;
  return networks !== undefined && !networks.has(swarm.network);
}

/** A plan that frees what was found, if it still has no owner; answers as `removePool` does. */
export function reclaim(
  draft: Draft,
  node: string,
  finds: readonly Leak[],
  swarm?: SwarmFacts,
): Progress {
  const still = new Set(findLeaks(draft, node, swarm).map(leakKey));
  const lost = finds.filter((find) => still.has(leakKey(find)));
  const handles = lost.flatMap((find) => (find.kind === 'address' ? [find.handle] : []));
  draft.readAhead('Handle', handles);
  for (const find of lost) {
    if (find.kind === 'pool') {
      if (releasePool(draft, find.poolId, find.node) === 'more') return 'more';
    } else if (find.kind === 'claim') reclaimClaims(draft, find);
    else reclaimAddress(draft, node, find.address);
  }
  return 'done';
}

function reclaimAddress(draft: Draft, node: string, address: IpAddress): void {
  const found = findAllocation(draft, address);
  if (found === undefined) return;
  const { block, holder } = found;
  const sharers = sharersOf(holder);
  if (sharers === undefined) return releaseUser(draft, found);
  const lost = lostSharers(draft, node, sharers);
  const left = sharers.filter((sharer) => !lost.includes(sharer));
  if (left.length === 0) return release(draft, block, { address, holder });
  const secondary = { ...holder.secondary, holders: left.join(',') };
  rewriteAllocation(draft, block, { address, holder: { ...holder, secondary } });
}

function reclaimClaims(
  draft: Draft,
  { address, claims }: { readonly address: IpAddress; readonly claims: readonly string[] },
): void {
  const found = findAllocation(draft, address);
  if (found === undefined) return;
  for (const claim of claims) draft.expect('DockerPool', claim);
  const left = claimsOn(found.holder).filter((claim) => !claims.includes(claim));
  putClaims(draft, found, left);
}

/** Those of this host whose pool record is gone, and those of managers that count no more. */
function lostSharers(draft: Draft, node: string, sharers: readonly string[]): readonly string[] {
  const nonces = new Set<string>();
  for (const [, record] of draft.group('DockerPool', node)) {
    nonces.add(parsePoolId(record.poolId).nonce);
  }
  return sharers.filter((sharer) =>
    sharer.startsWith(swarmSharer)
      ? isVoid(draft, sharer.slice(swarmSharer.length))
      : sharer.startsWith(`${node}/`) && !nonces.has(sharer.slice(node.length + 1)),
  );
}
