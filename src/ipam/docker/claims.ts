import type { Draft } from '../../datastore/writer.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import type { Allocation } from '../records/allocation.ts';
import { poolRecordId } from './docker-pools.ts';
import { parsePoolId } from './pool-id.ts';
import { release, rewriteAllocation } from '../records/records.ts';

/**
 * An address of a Swarm network has two holders: the manager that chose it for a task, and the host on which
 * the task runs. The allocation's attributes record both: `swarm` lists the manager's pools that claim it, the other
 * keys (`node`, `pool`, …) are the host's. It is free when both have released it, in any order.
 */

/** Returns the claim of a Swarm manager's pool: the datastore id of its record. */
export function claimOf({ node, poolId }: Pick<DockerPool, 'node' | 'poolId'>): string {
  return poolRecordId(node, parsePoolId(poolId).nonce);
}

/** Returns the claims on an address, including void ones. */
export function claimsOn({ secondary }: AllocationAttributes): readonly string[] {
  return secondary?.['swarm']?.split(',') ?? [];
}

/** Reports whether a claim is void: its pool is deleted, or another manager leads now. */
export function isVoid(draft: Draft, claim: string): boolean {
  const record = draft.get('DockerPool', claim);
  return record === undefined || isReplaced(draft, record);
}

/** Returns the pools requested for a network by managers of any host. */
export function poolsOfNetwork(draft: Draft, networkId: string): readonly DockerPool[] {
  return [...draft.entries('DockerPool')]
    .map(([, record]) => record)
    .filter(({ swarm }) => swarm?.network === networkId);
}

/** Returns the term of a pool; 0 for one of an earlier release. */
export function termOf({ swarm }: DockerPool): number {
  return swarm?.term ?? 0;
}

/** Reports whether a newer pool of the network is in force, of this manager or of a later leader. */
export function isReplaced(draft: Draft, record: DockerPool): boolean {
  const { swarm, node } = record;
  if (swarm?.isReplaced === true) return true;
  if (swarm?.network === undefined) return false;
  return poolsOfNetwork(draft, swarm.network).some(
    (other) => other.node !== node && termOf(other) > termOf(record),
  );
}

/** Returns the valid claims; the commit holds only if the others are still void. */
export function validClaims(draft: Draft, holder: AllocationAttributes): readonly string[] {
  for (const claim of claimsOn(holder)) draft.expect('DockerPool', claim);
  return claimsOn(holder).filter((claim) => !isVoid(draft, claim));
}

/** Reports whether a host uses the address, in addition to claims of managers. */
export function hasUser({ secondary }: AllocationAttributes): boolean {
  return secondary?.['pool'] !== undefined && secondary['holders'] === undefined;
}

/** Returns the endpoint of an address that Docker has released although the endpoint exists; `undefined` otherwise. */
export function formerEndpoint({ secondary }: AllocationAttributes): string | undefined {
  const endpoint = secondary?.['endpoint'];
  return secondary?.['givenBackBy'] === endpoint ? endpoint : undefined;
}

/** Reports whether a task of the network may use the address: only managers claim it, for this network or void. */
export function mayUse(
  draft: Draft,
  holder: AllocationAttributes,
  network: string | undefined,
): boolean {
  if (claimsOn(holder).length === 0 || hasUser(holder)) return false;
  const valid = validClaims(draft, holder);
  const isOfNetwork = (claim: string) =>
    network !== undefined && draft.get('DockerPool', claim)?.swarm?.network === network;
  return valid.length === 0 || valid.some(isOfNetwork);
}

/** Releases an address for a host; it is free unless a manager claims it. */
export function releaseUser(draft: Draft, allocation: Allocation): void {
  const { swarm } = allocation.holder.secondary ?? {};
  if (swarm === undefined) return release(draft, allocation.block, allocation);
  rewriteAllocation(draft, allocation.block, {
    address: allocation.address,
    holder: { ...allocation.holder, secondary: { swarm } },
  });
}

/** Replaces the claims on an address; without claims it is released unless a host uses it. */
export function putClaims(draft: Draft, allocation: Allocation, claims: readonly string[]): void {
  const { swarm: _, ...user } = allocation.holder.secondary ?? {};
  if (claims.length === 0 && !hasUser(allocation.holder))
    return release(draft, allocation.block, allocation);
  const secondary = claims.length === 0 ? user : { ...user, swarm: claims.join(',') };
  rewriteAllocation(draft, allocation.block, {
    address: allocation.address,
    holder: { ...allocation.holder, secondary },
  });
}
