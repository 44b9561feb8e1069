import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import type { Cidr } from '../../ip/cidr.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import { endpointAnnotations } from '../../model/kinds/workload-endpoint.ts';
import { allocateFrom, handleFor } from './addresses.ts';
import { allocateAddress, addressState } from '../pools/address-state.ts';
import {
  claimOf,
  claimsOn,
  hasUser,
  isVoid,
  poolsOfNetwork,
  putClaims,
  termOf,
  validClaims,
} from './claims.ts';
import { checkInside, isInside, releasePool } from './docker-pools.ts';
import { addressTaken, findAllocation, userOf } from '../records/allocation.ts';
import { isOwnPoolId, parsePoolId } from './pool-id.ts';

/**
 * IPAM requests of a Swarm manager: a pool for a network, and an address of it for each task and each service with a
 * virtual address. A new leader requests everything again, under a new pool of a higher term; therefore the pools of
 * former leaders are replaced, and their claims are void. Source: moby,
 * libnetwork/cnmallocator, and swarmkit, manager/allocator.
 */

/** One subnet of an AllocateNetwork call. */
export interface SwarmSubnet {
  readonly family: IpFamily;
  readonly cidr: Cidr;
  readonly gateway: IpAddress | undefined;
}

/**
 * Ties the pools requested by this manager to the network, in a term of its own: it is the leader now, and those of
 * other managers are replaced.
 */
export function allocateNetwork(
  draft: Draft,
  request: {
    readonly node: string;
    readonly networkId: string;
    readonly subnets: readonly SwarmSubnet[];
  },
): void {
  const { node, networkId } = request;
  const isOwn = (record: DockerPool) => record.node === node;
  const [ownPools, others] = [
    poolsOfNetwork(draft, networkId).filter(isOwn),
    poolsOfNetwork(draft, networkId).filter((record) => !isOwn(record)),
  ];
  const highest = Math.max(0, ...others.map(termOf));
  const term = Math.max(highest + 1, ...ownPools.map(termOf));
  const own = new Set<string>();
  for (const subnet of request.subnets) {
    const record = latestPool(draft, { node, networkId, subnet });
    // A subnet of Docker's own IPAM: nothing to claim.
    if (record === undefined) continue;
    own.add(claimOf(record));
    draft.put('DockerPool', claimOf(record), { ...record, swarm: { network: networkId, term } });
  }
  for (const record of ownPools) {
    if (own.has(claimOf(record)) || record.swarm?.isReplaced === true) continue;
    draft.put('DockerPool', claimOf(record), {
      ...record,
      swarm: { ...record.swarm, isReplaced: true },
    });
  }
}

/**
 * Deletes one pool of a removed network per step, of this manager; other managers reclaim theirs, and `node delete` those
 * of a host that never returns.
 */
export function freeNetwork(draft: Draft, node: string, networkId: string): Progress {
  const [first, ...others] = poolsOfNetwork(draft, networkId).filter(
    (record) => record.node === node,
  );
  if (first === undefined) return 'done';
  const progress = releasePool(draft, first.poolId, first.node);
  return others.length > 0 ? 'more' : progress;
}

/**
 * Claims an address for a task or service: a given one, or any. After a change of the leader a given address is
 * claimed again, when a task has it already. Throws `ipam/full`, `ipam/address-taken`, `ipam/address-outside`.
 */
export function claimAddress(
  draft: Draft,
  request: {
    readonly record: DockerPool;
    readonly address: IpAddress | undefined;
    readonly now: Date;
  },
): IpAddress {
  const { record, address, now } = request;
  const { node } = record;
  const claim = claimOf(record);
  const holder = (free: IpAddress) => ({
    handle_id: handleFor('swarm', free),
    secondary: { swarm: claim },
  });
  const sources = [record, ...siblings(draft, record)] as const;
  if (address === undefined) return allocateFrom(draft, sources, { holder, now });
  const source = sources.find((one) => isInside(draft, one, address)) ?? record;
  const state = addressState(draft, address);
  checkInside(draft, source, state);
  const { allocation } = state;
  if (allocation === undefined) {
    const { annotations } = userOf(draft, address)?.metadata ?? {};
    const network = annotations?.[endpointAnnotations.network];
    const isUsersOwn = network !== undefined && network === record.swarm?.network;
    allocateAddress(draft, state, { node, holder: holder(address), now, isUsersOwn });
    return address;
  }
  const { secondary = {} } = allocation.holder;
  // A running task of this network may have lost its manager's claim; else the address must be unused.
  const isOfTask = hasUser(allocation.holder)
    ? secondary['network'] !== undefined && secondary['network'] === record.swarm?.network
    : claimsOn(allocation.holder).length > 0;
  if (!isOfTask || validClaims(draft, allocation.holder).length > 0) {
    throw addressTaken(draft, address, allocation.holder);
  }
  putClaims(draft, allocation, [claim]);
  return address;
}

/** Releases a claim of this pool, if it exists. The host keeps the address if it uses it. */
export function releaseClaim(
  draft: Draft,
  request: { readonly node: string; readonly poolId: string; readonly address: IpAddress },
): void {
  const { address, poolId } = request;
  if (!isOwnPoolId(poolId) || parsePoolId(poolId).forSwarm !== true) return;
  const claim = claimOf(request);
  const found = findAllocation(draft, address);
  if (found === undefined || !claimsOn(found.holder).includes(claim)) return;
  const left = claimsOn(found.holder).filter((other) => other !== claim && !isVoid(draft, other));
  putClaims(draft, found, left);
}

/** Returns the pool requested by this manager: the newest with this gateway and subnet without another network. */
function latestPool(
  draft: Draft,
  request: { readonly node: string; readonly networkId: string; readonly subnet: SwarmSubnet },
): DockerPool | undefined {
  const { node, networkId, subnet } = request;
  const candidates: DockerPool[] = [];
  for (const [, record] of draft.group('DockerPool', node)) {
    const { swarm, family } = record;
    const isUsable = swarm !== undefined && (swarm.network ?? networkId) === networkId;
    const isOfSubnet = family === subnet.family && (record.subnet ?? subnet.cidr) === subnet.cidr;
    if (isUsable && isOfSubnet && swarm.isReplaced !== true) candidates.push(record);
  }
  const rank = ({ nextHop, swarm, createdAt }: DockerPool) =>
    `${nextHop === subnet.gateway ? 1 : 0}${swarm?.network === undefined ? 1 : 0}${createdAt}`;
  return candidates.toSorted((a, b) => (rank(a) < rank(b) ? 1 : -1))[0];
}

/** Returns the pools of the network's other subnets. */
function siblings(draft: Draft, record: DockerPool): readonly DockerPool[] {
  const network = record.swarm?.network;
  if (network === undefined) return [];
  return poolsOfNetwork(draft, network).filter(
    (other) =>
      other.node === record.node &&
      other.family === record.family &&
      other.poolId !== record.poolId &&
      other.swarm?.isReplaced !== true,
  );
}
