import type { Draft } from '../datastore/writer.ts';
import type { IpAddress } from '../ip/address.ts';
import { heldAddresses } from './block.ts';
import { isLiving, sharersOf } from './addresses.ts';
import { lookUpHolder } from './allocate.ts';
import { poolIdsOfNetworks, releasePool } from './docker-pools.ts';
import { parsePoolId } from './pool-id.ts';
import { release, describeHolder as rewriteHolder } from './records.ts';

/** Something of this host that has no owner any more. */
export type Ownerless =
  | {
      readonly kind: 'address';
      readonly address: IpAddress;
      readonly handle: string;
      /** The endpoint that had it. */
      readonly endpoint: string | undefined;
    }
  | { readonly kind: 'pool'; readonly poolId: string };

/** What names a find in two looks at the same thing. */
export function ownerlessKey(find: Ownerless): string {
  return find.kind === 'pool' ? `pool ${find.poolId}` : `address ${find.address} ${find.handle}`;
}

/**
 * Addresses of this host that no endpoint and no pool record has, and pool records that no network has. What
 * was asked for a moment ago looks the same, so a find counts only if it is still one some time later.
 */
export function findOwnerless(draft: Draft, node: string): readonly Ownerless[] {
  const finds: Ownerless[] = [];
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const [, block] of draft.entries(kind)) {
      for (const [address, holder] of heldAddresses(block)) {
        const { secondary = {}, handle_id: handle = '' } = holder;
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
  for (const [, { poolId }] of draft.group('DockerPool', node)) {
    if (!used.has(poolId)) finds.push({ kind: 'pool', poolId });
  }
  return finds;
}

/** A plan that frees what was found, if it still has no owner; answers how many it freed. */
export function collect(draft: Draft, node: string, finds: readonly Ownerless[]): number {
  const still = new Set(findOwnerless(draft, node).map(ownerlessKey));
  const lost = finds.filter((find) => still.has(ownerlessKey(find)));
  for (const find of lost) {
    if (find.kind === 'pool') releasePool(draft, find.poolId, node);
    else collectAddress(draft, node, find.address);
  }
  return lost.length;
}

function collectAddress(draft: Draft, node: string, address: IpAddress): void {
  const found = lookUpHolder(draft, address);
  if (found === undefined) return;
  const { block, holder } = found;
  const sharers = sharersOf(holder) ?? [];
  const lost = lostSharers(draft, node, sharers);
  const left = sharers.filter((sharer) => !lost.includes(sharer));
  if (left.length === 0) return release(draft, block, { address, holder });
  const secondary = { ...holder.secondary, holders: left.join(',') };
  rewriteHolder(draft, block, { address, holder: { ...holder, secondary } });
}

/** Those of this host whose pool record is gone. */
function lostSharers(draft: Draft, node: string, sharers: readonly string[]): readonly string[] {
  const nonces = new Set<string>();
  for (const [, record] of draft.group('DockerPool', node)) {
    nonces.add(parsePoolId(record.poolId).nonce);
  }
  return sharers.filter(
    (sharer) => sharer.startsWith(`${node}/`) && !nonces.has(sharer.slice(node.length + 1)),
  );
}
