import type { Draft } from '../../datastore/writer.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import type { Allocation } from '../records/allocation.ts';
import { poolRecordId } from './docker-pools.ts';
import { parsePoolId } from './pool-id.ts';
import { release, rewriteAllocation } from '../records/records.ts';

/**
 * An address of a Swarm network is held twice: by the manager that chose it for a task, and by the host on which
 * the task runs. The allocation's attributes say both: `swarm` lists the manager's pools that claim it, the other
 * keys (`node`, `pool`, …) are the host's. It is free when neither is left, whoever gives it back first.
 */

/** By what a pool of Swarm's manager claims: the datastore id of its record. */
export function claimOf({ node, poolId }: Pick<DockerPool, 'node' | 'poolId'>): string {
  return poolRecordId(node, parsePoolId(poolId).nonce);
}

/** The claims on an address, void ones too. */
export function claimsOn({ secondary }: AllocationAttributes): readonly string[] {
  return secondary?.['swarm']?.split(',') ?? [];
}

/** Whether a claim counts no more: its pool is gone, or another manager leads now. */
export function isVoid(draft: Draft, claim: string): boolean {
  const record = draft.get('DockerPool', claim);
  return record === undefined || record.swarm?.isReplaced === true;
}

/** The claims that count; that the others do not is still to be so at the commit. */
export function validClaims(draft: Draft, holder: AllocationAttributes): readonly string[] {
  for (const claim of claimsOn(holder)) draft.expect('DockerPool', claim);
  return claimsOn(holder).filter((claim) => !isVoid(draft, claim));
}

/** Whether a host has the address, beside what managers claim. */
export function hasUser({ secondary }: AllocationAttributes): boolean {
  return secondary?.['pool'] !== undefined && secondary['holders'] === undefined;
}

/** Whether only managers hold it, and one of them for this network, or none with right: a task there may use it. */
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

/** The host gives the address back; it is free unless a manager claims it. */
export function releaseUser(draft: Draft, allocation: Allocation): void {
  const { swarm } = allocation.holder.secondary ?? {};
  if (swarm === undefined) return release(draft, allocation.block, allocation);
  rewriteAllocation(draft, allocation.block, {
    address: allocation.address,
    holder: { ...allocation.holder, secondary: { swarm } },
  });
}

/** Replaces the claims on an address; without any it is free unless a host has it. */
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
