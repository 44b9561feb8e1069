import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress } from '../../ip/address.ts';
import { allocatedAddresses, ordinalOf } from '../records/block.ts';
import { concernsHost } from '../../model/briefs.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import { isLiving, sharersOf, swarmSharer } from '../docker/addresses.ts';
import { findAllocation } from '../records/allocation.ts';
import { claimsOn, isReplaced, isVoid, putClaims, releaseUser } from '../docker/claims.ts';
import { poolIdsOfNetworks, releasePool } from '../docker/docker-pools.ts';
import { parsePoolId } from '../docker/pool-id.ts';
import { release, rewriteAllocation } from '../records/records.ts';

/** An object of this host that no longer has an owner. */
export type Leak =
  | {
      readonly kind: 'address';
      readonly address: IpAddress;
      readonly handle: string;
      /** Number of the allocation: the address may have been released and allocated again since. */
      readonly allocation: bigint | undefined;
      /** The endpoint that used it. */
      readonly endpoint: string | undefined;
    }
  /** Void claims of Swarm managers. */
  | { readonly kind: 'claim'; readonly address: IpAddress; readonly claims: readonly string[] }
  | { readonly kind: 'pool'; readonly poolId: string; readonly node: string };

/** Returns a key that identifies a leak across two checks: that of a later allocation of the same address differs. */
export function leakIdentity(find: Leak): string {
  const allocation = find.kind === 'address' ? ` ${find.allocation ?? ''}` : '';
  return `${leakKey(find)}${allocation}`;
}

/** Returns the name of a leak in the log. */
export function leakKey(find: Leak): string {
  if (find.kind === 'pool') return `pool ${find.poolId}`;
  const what = find.kind === 'claim' ? find.claims.join(',') : find.handle;
  return `${find.kind} ${find.address} ${what}`;
}

/** Docker's view of Swarm on this host: whether it is a manager, and the existing networks if it knows them. */
export interface SwarmFacts {
  readonly isManager: boolean;
  readonly networks?: ReadonlySet<string>;
}

/**
 * Returns addresses of this host that no endpoint and no pool record uses, void claims of managers, and pool
 * records that no network uses. An object requested a moment ago looks the same: the caller reclaims a leak only if
 * two checks, some time apart, find it.
 */
export function findLeaks(
  draft: Draft,
  node: string,
  swarm: SwarmFacts = { isManager: true },
): readonly Leak[] {
  const finds: Leak[] = [];
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const [id, brief] of draft.briefs(kind)) {
      // Mostly those of other hosts do not, and there may be thousands of them.
      const block = concernsHost(brief, node) ? draft.get(kind, id) : undefined;
      if (block === undefined) continue;
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
          const allocation = block.sequenceNumberForAllocation?.[ordinalOf(block, address)];
          const { endpoint } = secondary;
          finds.push({ kind: 'address', address, handle, allocation, endpoint });
        }
      }
    }
  }
  const used = poolIdsOfNetworks(draft, node);
  for (const [, record] of draft.group('DockerPool', node)) {
    const { poolId } = record;
    const isOver =
      record.swarm === undefined ? !used.has(poolId) : isAbandoned(draft, record, swarm);
    if (isOver) finds.push({ kind: 'pool', poolId, node });
  }
  return finds;
}

/** Reports whether a pool of this host's manager has no network: replaced, never tied to one, or network removed. */
function isAbandoned(
  draft: Draft,
  record: DockerPool,
  { isManager, networks }: SwarmFacts,
): boolean {
  const { swarm } = record;
  if (!isManager || swarm?.network === undefined || isReplaced(draft, record)) return true;
  return networks !== undefined && !networks.has(swarm.network);
}

/** A plan that reclaims leaks that still have no owner; returns progress as `removePool` does. */
export function reclaim(
  draft: Draft,
  node: string,
  finds: readonly Leak[],
  swarm?: SwarmFacts,
): Progress {
  const still = new Set(findLeaks(draft, node, swarm).map(leakIdentity));
  const lost = finds.filter((find) => still.has(leakIdentity(find)));
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

/** Returns the sharers of this host whose pool record no longer exists, and those of void manager claims. */
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
