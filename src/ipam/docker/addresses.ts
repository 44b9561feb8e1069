import { endpointOf, removeEndpointOf } from '../../cache/endpoint-lookup.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import { checkAffinity } from '../blocks/allocate.ts';
import { formerEndpoint, mayUse, releaseUser } from './claims.ts';
import { addressTaken, findAllocation, type AddressFacts } from '../records/allocation.ts';
import type { LastAddresses } from './last-addresses.ts';
import { isLinkLocal } from './next-hop.ts';
import { checkInside, describeSource, isInside, poolsOfRecord } from './docker-pools.ts';
import {
  allocateAddress,
  addressState,
  allocateAny,
  type AddressState,
} from '../pools/address-state.ts';
import { isOwnPoolId, parsePoolId } from './pool-id.ts';
import { putBlock, release, rewriteAllocation } from '../records/records.ts';
import { isUnusedAnswer, unusedAnswerFor } from './repeated-requests.ts';

/** Addresses as requested and released by Docker's IPAM calls. */

export interface AddressRequest {
  readonly record: DockerPool;
  /** The requested address; any if absent. */
  readonly address: IpAddress | undefined;
  /** The container, which Docker names from version 29. */
  readonly container: string | undefined;
  readonly now: Date;
  /** Last addresses of this host's containers. */
  readonly last: Pick<LastAddresses, 'addressFor' | 'isKept'>;
  /**
   * Whether all is known of who requests it. Otherwise a container that may be new does not get the address of one that
   * stopped: the event of its creation may be on its way.
   */
  readonly isSettled: boolean;
}

/** Returns the handle of an address. One per address, because Docker releases single addresses without the endpoint. */
export function handleFor(node: string, address: IpAddress): string {
  return `docker.${node}.${address.replaceAll(/[.:]/g, '-')}`;
}

/** Returns the attributes of an allocation by this driver. */
export function holderWith(address: IpAddress, facts: AddressFacts): AllocationAttributes {
  return { handle_id: handleFor(facts.node, address), secondary: { ...facts } };
}

/**
 * Allocates an address of a pool; a repeated request gets the same address, if it can be recognised. If the subnet is
 * full, the address comes from the network's next subnet of the family, under the same PoolID. Returns `undefined`, and
 * allocates nothing, if the request must be settled first. Throws `ipam/full`, `ipam/address-taken`, `ipam/address-outside`.
 */
export function requestAddress(draft: Draft, request: AddressRequest): IpAddress | undefined {
  const { record, address } = request;
  const facts = addressFacts(draft, request);
  if (address !== undefined) {
    requestSpecific(draft, request, { address, facts });
    return address;
  }
  const before = unusedAnswerFor(draft, record.family, facts);
  if (before !== undefined) {
    // Written unchanged, so that a concurrent release conflicts.
    putBlock(draft, before.block);
    return before.address;
  }
  const preferred = request.last.addressFor({
    family: record.family,
    network: facts.networkName ?? facts.network ?? '',
    container: facts.container,
  });
  if (preferred !== undefined && !request.isSettled) return undefined;
  if (preferred !== undefined) freeReleasedEarly(draft, preferred, facts);
  return allocateFrom(draft, [record, ...siblings(draft, record)], {
    holder: (free) => holderWith(free, facts),
    now: request.now,
    preferred,
    isKept: (free) => request.last.isKept(free),
  });
}

/**
 * Allocates an address from the first source with a free one; throws `ipam/full`, which names the first source, or
 * `ipam/pool-not-for-workloads`.
 */
export function allocateFrom(
  draft: Draft,
  sources: readonly [DockerPool, ...DockerPool[]],
  request: {
    readonly holder: (free: IpAddress) => AllocationAttributes;
    readonly now: Date;
    readonly preferred?: IpAddress | undefined;
    readonly isKept?: (free: IpAddress) => boolean;
  },
): IpAddress {
  for (const source of sources) {
    const found = allocateAny(draft, {
      node: source.node,
      pools: poolsOfRecord(draft, source),
      range: source.range ?? source.subnet,
      ...request,
    });
    if (found !== undefined) return found;
  }
  throw new CalicoError('ipam/full', describeSource(draft, sources[0]));
}

/**
 * Releases an address for Docker. Ignores free addresses, next hops, and addresses of other hosts or networks. The
 * address of an existing endpoint stays, because the call may be a repeated one. But the call may also come from a
 * dockerd that was killed and never mentions the endpoint again; therefore that address can be requested again. A
 * PoolID of libnetwork-plugin is ignored: its addresses were released with their endpoints.
 */
export function releaseAddress(
  draft: Draft,
  request: { readonly node: string; readonly poolId: string; readonly address: IpAddress },
): void {
  const { node, address } = request;
  if (isLinkLocal(address) || !isOwnPoolId(request.poolId)) return;
  const found = findAllocation(draft, address);
  if (found === undefined) return;
  const { block, holder } = found;
  const secondary = holder.secondary ?? {};
  const sharers = sharersOf(holder);
  if (sharers !== undefined) {
    const left = sharers.filter((sharer) => sharer !== sharerOf(request));
    if (left.length === sharers.length) return;
    if (left.length === 0) return release(draft, block, { address, holder });
    const shared = { ...holder, secondary: { ...secondary, holders: left.join(',') } };
    return rewriteAllocation(draft, block, { address, holder: shared });
  }
  const { nonce } = parsePoolId(request.poolId);
  if (secondary['node'] !== node || secondary['pool'] !== nonce) return;
  const { endpoint } = secondary;
  if (endpoint === undefined || !isLiving(draft, node, endpoint)) {
    return releaseUser(draft, found);
  }
  const givenBack = { ...holder, secondary: { ...secondary, givenBackBy: endpoint } };
  rewriteAllocation(draft, block, { address, holder: givenBack });
}

/**
 * Reserves an address of a subnet for the network itself (gateway or auxiliary address). Networks of
 * several hosts on one subnet share it; a second network of the same host cannot.
 */
export function reserve(
  draft: Draft,
  state: AddressState,
  request: {
    readonly record: DockerPool;
    readonly type: 'gateway' | 'auxiliary';
    readonly now: Date;
  },
): void {
  const { address, allocation } = state;
  const { record, type, now } = request;
  const { nonce } = parsePoolId(record.poolId);
  const sharer = sharerOf(record);
  checkInside(draft, record, state);
  if (allocation === undefined) {
    const secondary = { node: record.node, pool: nonce, type, holders: sharer };
    const holder = { handle_id: handleFor('shared', address), secondary };
    return allocateAddress(draft, state, { node: record.node, holder, now });
  }
  const { block, holder } = allocation;
  const sharers = sharersOf(holder) ?? [];
  const own = holder.secondary ?? {};
  const isOwnPlain = sharers.length === 0 && own['node'] === record.node && own['pool'] === nonce;
  const isShareable =
    sharers.length > 0 && !sharers.some((other) => other.startsWith(`${record.node}/`));
  if (sharers.includes(sharer)) return;
  if (!isOwnPlain && !isShareable) {
    throw addressTaken(draft, address, holder);
  }
  const secondary = { ...own, type: own['type'] ?? type, holders: [...sharers, sharer].join(',') };
  rewriteAllocation(draft, block, { address, holder: { ...holder, secondary } });
}

/** Returns the name of a pool among sharers: `host/nonce`; a Swarm manager also shares with pools of its own host. */
function sharerOf({ node, poolId }: { readonly node: string; readonly poolId: string }): string {
  const { forSwarm, nonce } = parsePoolId(poolId);
  return `${forSwarm === true ? swarmSharer : ''}${node}/${nonce}`;
}

/** Prefix of sharers that are pools of a Swarm manager. */
export const swarmSharer = 'swarm:';

/** Returns the hosts and pools that share a reserved address; `undefined` for an address of an endpoint. */
export function sharersOf({ secondary }: AllocationAttributes): readonly string[] | undefined {
  return secondary?.['holders']?.split(',');
}

/** Reports whether the endpoint of an allocation exists. */
export function isLiving(draft: Draft, node: string, endpointId: string): boolean {
  return endpointOf(draft, node, endpointId) !== undefined;
}

function requestSpecific(
  draft: Draft,
  { record, now }: AddressRequest,
  { address, facts }: { readonly address: IpAddress; readonly facts: AddressFacts },
): void {
  const source =
    [record, ...siblings(draft, record)].find((one) => isInside(draft, one, address)) ?? record;
  const state = addressState(draft, address);
  checkInside(draft, source, state);
  const { allocation } = state;
  const sharers = allocation === undefined ? undefined : sharersOf(allocation.holder);
  const isOfOthers = sharers?.every((sharer) => !sharer.startsWith(`${record.node}/`)) === true;
  if (isOfOthers) {
    // It may be this network's auxiliary address, reserved by other hosts; CreateNetwork will confirm that,
    // and a container that requested it is rejected at creation.
    return reserve(draft, state, { record, type: 'auxiliary', now });
  }
  if (
    allocation !== undefined &&
    isUnusedAnswer(draft, address, { holder: allocation.holder, facts })
  ) {
    const secondary = { ...allocation.holder.secondary, ...facts };
    return rewriteAllocation(draft, allocation.block, {
      address,
      holder: { ...allocation.holder, secondary },
    });
  }
  const isFreed = freeReleasedEarly(draft, address, facts);
  assignToUser(draft, isFreed ? addressState(draft, address) : state, { facts, now });
}

/**
 * Releases an address that a killed dockerd released while its endpoint still exists, and removes the endpoint;
 * returns whether it was one of the same pool.
 */
function freeReleasedEarly(
  draft: Draft,
  address: IpAddress,
  { node, pool }: AddressFacts,
): boolean {
  const allocation = findAllocation(draft, address);
  if (allocation === undefined || allocation.holder.secondary?.['pool'] !== pool) return false;
  const endpoint = formerEndpoint(allocation.holder);
  if (endpoint === undefined) return false;
  removeEndpointOf(draft, node, endpoint);
  releaseUser(draft, allocation);
  return true;
}

/** Allocates an address to a host; the host may use one that a manager has claimed for a task of the same network. */
export function assignToUser(
  draft: Draft,
  state: AddressState,
  { facts, now }: { readonly facts: AddressFacts; readonly now: Date },
): void {
  const { address, allocation } = state;
  const { node, network } = facts;
  if (allocation === undefined || !mayUse(draft, allocation.holder, network)) {
    return allocateAddress(draft, state, { node, holder: holderWith(address, facts), now });
  }
  checkAffinity(draft, { node, block: allocation.block, address });
  const secondary = { ...allocation.holder.secondary, ...facts };
  rewriteAllocation(draft, allocation.block, {
    address,
    holder: { ...allocation.holder, secondary },
  });
}

function addressFacts(draft: Draft, { record, container }: AddressRequest): AddressFacts {
  const network = networkOf(draft, record);
  return {
    node: record.node,
    pool: parsePoolId(record.poolId).nonce,
    ...(network === undefined ? {} : { network: network.id }),
    ...(network?.name === undefined ? {} : { networkName: network.name }),
    ...(container === undefined ? {} : { container }),
  };
}

/** Returns the network that adopted a record. */
function networkOf(draft: Draft, record: DockerPool) {
  for (const [, network] of draft.group('DockerNetwork', record.node)) {
    if (network.subnets.some(({ poolId }) => poolId === record.poolId)) return network;
  }
  return undefined;
}

/** Returns the other subnets of the same network and family. */
function siblings(draft: Draft, record: DockerPool): readonly DockerPool[] {
  const subnets = networkOf(draft, record)?.subnets ?? [];
  return subnets.flatMap(({ poolId }) => {
    if (poolId === undefined || poolId === record.poolId) return [];
    const sibling = draft.get('DockerPool', `${record.node}/${parsePoolId(poolId).nonce}`);
    return sibling?.family === record.family ? [sibling] : [];
  });
}
