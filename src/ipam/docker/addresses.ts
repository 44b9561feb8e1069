import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import { endpointName, endpointNamespace } from '../../model/kinds/workload-endpoint.ts';
import { checkAffinity } from '../blocks/allocate.ts';
import { mayUse, releaseUser } from './claims.ts';
import { addressTaken, lookUpHolder, type AddressFacts } from '../records/holder.ts';
import type { LastAddresses } from './last-addresses.ts';
import { isLinkLocal } from './next-hop.ts';
import { checkInside, describeSource, isInside, poolsOfRecord } from './docker-pools.ts';
import { give, standingOf, takeAny, type Standing } from '../pools/standing.ts';
import { isOwnPoolId, parsePoolId } from './pool-id.ts';
import { putBlock, release, rewriteHolder } from '../records/records.ts';
import { isUnusedAnswer, unusedAnswerFor } from './repeated-requests.ts';

/** Addresses as Docker's IPAM calls take and return them. */

export interface AddressRequest {
  readonly record: DockerPool;
  /** The one that is wanted; any if absent. */
  readonly address: IpAddress | undefined;
  /** Docker 29 says which container it is for. */
  readonly container: string | undefined;
  readonly now: Date;
  /** Which container of this host had which address last. */
  readonly last: Pick<LastAddresses, 'addressFor' | 'isKept'>;
}

/** One handle per address: what Docker releases is one address, and it does not say of which endpoint. */
export function handleFor(node: string, address: IpAddress): string {
  return `docker.${node}.${address.replaceAll(/[.:]/g, '-')}`;
}

/** The holder of an address of this driver. */
export function holderWith(address: IpAddress, facts: AddressFacts): AllocationAttributes {
  return { handle_id: handleFor(facts.node, address), secondary: { ...facts } };
}

/**
 * Takes an address of a pool; a repeated request is answered as the first was, as far as it can be told. When the subnet is full, the network's next subnet of the family gives one, under
 * the same PoolID. Throws `ipam/full`, `ipam/address-taken`, `ipam/address-outside`.
 */
export function requestAddress(draft: Draft, request: AddressRequest): IpAddress {
  const { record, address } = request;
  const facts = addressFacts(draft, request);
  if (address !== undefined) {
    requestSpecific(draft, request, { address, facts });
    return address;
  }
  const before = unusedAnswerFor(draft, record.family, facts);
  if (before !== undefined) {
    // Written as it is: whoever frees it at this moment finds that it changed.
    putBlock(draft, before.block);
    return before.address;
  }
  const preferred = request.last.addressFor({
    family: record.family,
    network: facts.networkName ?? facts.network ?? '',
    container: facts.container,
  });
  if (preferred !== undefined) freeGivenBack(draft, preferred, facts);
  return allocateFrom(draft, [record, ...siblings(draft, record)], {
    holder: (free) => holderWith(free, facts),
    now: request.now,
    preferred,
    isKept: (free) => request.last.isKept(free),
  });
}

/** Takes an address of the first of the sources that has one; throws `ipam/full`, which names the first, or
 * `ipam/pool-not-for-workloads`. */
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
    const found = takeAny(draft, {
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
 * Frees an address that Docker gives back. Nothing happens to what is free already, to a next hop, and to an
 * address that is another host's or another network's. That of an endpoint which still exists stays: the call may
 * be a repeated one. But it may also come from a dockerd that was killed, and that says no more of its endpoints
 * than this; so that very address can be asked for again. With a PoolID of the plugin of 2019 nothing happens: its
 * addresses went with their endpoints.
 */
export function releaseAddress(
  draft: Draft,
  request: { readonly node: string; readonly poolId: string; readonly address: IpAddress },
): void {
  const { node, address } = request;
  if (isLinkLocal(address) || !isOwnPoolId(request.poolId)) return;
  const found = lookUpHolder(draft, address);
  if (found === undefined) return;
  const { block, holder } = found;
  const secondary = holder.secondary ?? {};
  const sharers = sharersOf(holder);
  if (sharers !== undefined) {
    const left = sharers.filter((sharer) => sharer !== sharerOf(request));
    if (left.length === sharers.length) return;
    if (left.length === 0) return release(draft, block, { address, holder });
    const shared = { ...holder, secondary: { ...secondary, holders: left.join(',') } };
    return rewriteHolder(draft, block, { address, holder: shared });
  }
  const { nonce } = parsePoolId(request.poolId);
  if (secondary['node'] !== node || secondary['pool'] !== nonce) return;
  const { endpoint } = secondary;
  if (endpoint === undefined || !isLiving(draft, node, endpoint)) {
    return releaseUser(draft, found);
  }
  const givenBack = { ...holder, secondary: { ...secondary, givenBackBy: endpoint } };
  rewriteHolder(draft, block, { address, holder: givenBack });
}

/**
 * Reserves an address of a subnet for the network itself (its gateway, or an auxiliary address). Networks of
 * several hosts on one subnet share it; a second network of the same host does not.
 */
export function reserve(
  draft: Draft,
  standing: Standing,
  request: {
    readonly record: DockerPool;
    readonly type: 'gateway' | 'auxiliary';
    readonly now: Date;
  },
): void {
  const { address, held } = standing;
  const { record, type, now } = request;
  const { nonce } = parsePoolId(record.poolId);
  const sharer = sharerOf(record);
  checkInside(draft, record, standing);
  if (held === undefined) {
    const secondary = { node: record.node, pool: nonce, type, holders: sharer };
    const holder = { handle_id: handleFor('shared', address), secondary };
    return give(draft, standing, { node: record.node, holder, now });
  }
  const { block, holder } = held;
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
  rewriteHolder(draft, block, { address, holder: { ...holder, secondary } });
}

/** By what a pool shares an address: `host/nonce`; Swarm's manager shares with pools of its own host as well. */
function sharerOf({ node, poolId }: { readonly node: string; readonly poolId: string }): string {
  const { forSwarm, nonce } = parsePoolId(poolId);
  return `${forSwarm === true ? swarmSharer : ''}${node}/${nonce}`;
}

/** What the sharers that are pools of Swarm's manager begin with. */
export const swarmSharer = 'swarm:';

/** The hosts and pools that share a reserved address; `undefined` for an address of an endpoint. */
export function sharersOf({ secondary }: AllocationAttributes): readonly string[] | undefined {
  return secondary?.['holders']?.split(',');
}

/** Whether the endpoint of an allocation exists. */
export function isLiving(draft: Draft, node: string, endpointId: string): boolean {
  const id = `${endpointNamespace}/${endpointName(node, endpointId)}`;
  return draft.get('WorkloadEndpoint', id) !== undefined;
}

function requestSpecific(
  draft: Draft,
  { record, now }: AddressRequest,
  { address, facts }: { readonly address: IpAddress; readonly facts: AddressFacts },
): void {
  const source =
    [record, ...siblings(draft, record)].find((one) => isInside(draft, one, address)) ?? record;
  const standing = standingOf(draft, address);
  checkInside(draft, source, standing);
  const { held } = standing;
  const sharers = held === undefined ? undefined : sharersOf(held.holder);
  const isOfOthers = sharers?.every((sharer) => !sharer.startsWith(`${record.node}/`)) === true;
  if (isOfOthers) {
    // It may be this network's auxiliary address, which other hosts have reserved; CreateNetwork will say so,
    // and a container that asked for it is refused when it is created.
    return reserve(draft, standing, { record, type: 'auxiliary', now });
  }
  if (held !== undefined && isUnusedAnswer(draft, address, { holder: held.holder, facts })) {
    const secondary = { ...held.holder.secondary, ...facts };
    return rewriteHolder(draft, held.block, { address, holder: { ...held.holder, secondary } });
  }
  const isFreed = freeGivenBack(draft, address, facts);
  assignToUser(draft, isFreed ? standingOf(draft, address) : standing, { facts, now });
}

/**
 * Frees an address that a killed dockerd gave back while its endpoint still exists, which goes with it; answers
 * whether it was one of the same pool.
 */
function freeGivenBack(draft: Draft, address: IpAddress, { node, pool }: AddressFacts): boolean {
  const held = lookUpHolder(draft, address);
  const { secondary = {} } = held?.holder ?? {};
  const { endpoint } = secondary;
  const isGivenBack = endpoint !== undefined && secondary['givenBackBy'] === endpoint;
  if (held === undefined || !isGivenBack || secondary['pool'] !== pool) return false;
  draft.remove('WorkloadEndpoint', `${endpointNamespace}/${endpointName(node, endpoint)}`);
  releaseUser(draft, held);
  return true;
}

/** Gives an address to a host; one that a manager has claimed for the same network's task is there for it. */
export function assignToUser(
  draft: Draft,
  standing: Standing,
  { facts, now }: { readonly facts: AddressFacts; readonly now: Date },
): void {
  const { address, held } = standing;
  const { node, network } = facts;
  if (held === undefined || !mayUse(draft, held.holder, network)) {
    return give(draft, standing, { node, holder: holderWith(address, facts), now });
  }
  checkAffinity(draft, { node, block: held.block, address });
  const secondary = { ...held.holder.secondary, ...facts };
  rewriteHolder(draft, held.block, { address, holder: { ...held.holder, secondary } });
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

/** The network that a record was adopted by. */
function networkOf(draft: Draft, record: DockerPool) {
  for (const [, network] of draft.group('DockerNetwork', record.node)) {
    if (network.subnets.some(({ poolId }) => poolId === record.poolId)) return network;
  }
  return undefined;
}

/** The other subnets of the same network and family. */
function siblings(draft: Draft, record: DockerPool): readonly DockerPool[] {
  const subnets = networkOf(draft, record)?.subnets ?? [];
  return subnets.flatMap(({ poolId }) => {
    if (poolId === undefined || poolId === record.poolId) return [];
    const sibling = draft.get('DockerPool', `${record.node}/${parsePoolId(poolId).nonce}`);
    return sibling?.family === record.family ? [sibling] : [];
  });
}
