import type { Progress } from '../../datastore/steps.ts';
import { removeEndpointOf } from '../../cache/endpoint-lookup.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrContains, cidrCovers, type Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork, NetworkSubnet } from '../../model/kinds/docker-network.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { assignToUser, holderWith, isLiving, reserve, sharersOf } from './addresses.ts';
import { allocateAddress, addressState } from '../pools/address-state.ts';
import { removePool } from '../pools/remove-pool.ts';
import type { Stamp } from '../../model/stamp.ts';
import type { UsedRange } from '../pools/default-pools.ts';
import { subnetPool } from '../pools/subnet-pools.ts';
import { poolIdsOfNetworks } from './docker-pools.ts';
import { claimOf, mayUse } from './claims.ts';
import { claimExtraAddresses, releaseExtraAddresses } from './extra-addresses.ts';
import { claimPrefixes, releasePrefixes, type PrefixRequest } from './prefixes.ts';
import { addressTaken, findAllocation, userOf, type AddressFacts } from '../records/allocation.ts';
import { chooseNextHop } from './next-hop.ts';
import { parsePoolId } from './pool-id.ts';
import { allPools, hostLocal, poolOverlapping, rejectSpecialSubnet } from '../pools/pools.ts';
import { putBlock, release, rewriteAllocation } from '../records/records.ts';
import { allocateNetwork, freeNetwork } from './swarm-addresses.ts';

/** Name of the address space of this driver. */
export const addressSpace = 'CalicoAddressSpace';

/** Address space of requests by a Swarm manager, which distinguishes it from hosts that run tasks. */
export const swarmAddressSpace = 'CalicoSwarmAddressSpace';

/** One subnet of Docker's CreateNetwork call. */
interface Subnet {
  readonly family: IpFamily;
  readonly addressSpace: string | undefined;
  readonly cidr: Cidr;
  readonly gateway: IpAddress | undefined;
  readonly auxiliary: Readonly<Record<string, IpAddress>>;
}

interface Adopted {
  readonly ipam: DockerNetwork['ipam'];
  readonly subnets: readonly NetworkSubnet[];
  readonly nextHop4: IpAddress | undefined;
  readonly nextHop6: IpAddress | undefined;
}

interface EndpointAddresses {
  readonly node: string;
  readonly network: DockerNetwork;
  readonly endpointId: string;
  readonly addresses: readonly IpAddress[];
}

interface Clock {
  readonly now: () => Date;
  readonly stamp: Stamp;
  /** The networks of this host. */
  readonly usedRanges: () => readonly UsedRange[];
}

/** The plans that allocate and release addresses of networks and endpoints. */
export function createNetworkAddresses(clock: Clock) {
  return {
    adoptSubnets: (
      draft: Draft,
      request: {
        readonly node: string;
        readonly networkId: string;
        readonly subnets: readonly Subnet[];
      },
    ): Adopted => {
      const isOwnIpam = request.subnets.some(
        ({ addressSpace: space }) => space === addressSpace || space === swarmAddressSpace,
      );
      const subnets = request.subnets.map((subnet) =>
        isOwnIpam
          ? adoptPool(draft, { ...request, subnet, now: clock.now() })
          : adoptDockerSubnet(draft, { ...request, subnet, stamp: clock.stamp }),
      );
      const hop = (family: IpFamily) =>
        subnets.find(({ subnet }) => subnet.family === family)?.nextHop;
      return {
        ipam: isOwnIpam ? 'calico' : 'docker',
        subnets: subnets.map(({ subnet }) => subnet),
        nextHop4: hop(4),
        nextHop6: hop(6),
      };
    },
    dropSubnets: (draft: Draft, network: DockerNetwork): Progress => {
      if (network.ipam !== 'docker') return 'done';
      for (const { cidr } of network.subnets) {
        const isOwn = ({ metadata, spec }: IpPool) =>
          metadata.annotations?.[hostLocal] === network.node && cidrCovers(cidr, spec.cidr);
        for (const pool of allPools(draft).filter(isOwn)) {
          if (removePool(draft, pool) === 'more') return 'more';
        }
      }
      return 'done';
    },
    allocateNetwork,
    freeNetwork,
    bindEndpoint: (draft: Draft, endpoint: EndpointAddresses): void => {
      for (const address of endpoint.addresses) {
        if (endpoint.network.ipam === 'docker') {
          bindDockerAddress(draft, endpoint, { address, now: clock.now() });
        } else {
          bindOwnAddress(draft, endpoint, { address, now: clock.now() });
        }
      }
    },
    releaseEndpoint: (draft: Draft, endpoint: EndpointAddresses): void => {
      // ReleaseAddress, which follows, releases addresses of this IPAM driver.
      if (endpoint.network.ipam !== 'docker') return;
      for (const address of endpoint.addresses) {
        const found = findAllocation(draft, address);
        if (found?.holder.secondary?.['endpoint'] === endpoint.endpointId) {
          release(draft, found.block, found);
        }
      }
    },
    claimExtra: (draft: Draft, endpoint: EndpointAddresses): void => {
      const holderOf = (address: IpAddress) => holderWith(address, factsOf(endpoint, 'extra'));
      claimExtraAddresses(draft, { ...endpoint, holderOf, now: clock.now() });
    },
    claimPrefixes: (draft: Draft, request: Omit<PrefixRequest, 'used'>): void =>
      claimPrefixes(draft, { ...request, used: clock.usedRanges(), stamp: clock.stamp }),
    releasePrefixes,
    releaseExtra: releaseExtraAddresses,
    releaseAdopted: (draft: Draft, addresses: readonly IpAddress[]): void => {
      for (const address of addresses) {
        const found = findAllocation(draft, address);
        if (found === undefined || !isNobody(found.holder) || userOf(draft, address) !== undefined)
          continue;
        release(draft, found.block, found);
      }
    },
  };
}

/** Reports whether an allocation names no owner, as those of libnetwork-plugin. */
function isNobody({ handle_id, secondary = {} }: AllocationAttributes): boolean {
  return handle_id === undefined && Object.keys(secondary).length === 0;
}

interface AdoptedSubnet {
  readonly subnet: NetworkSubnet;
  readonly nextHop: IpAddress | undefined;
}

/** Finds the pool that Docker requested before: its next hop is the network's gateway. */
function adoptPool(
  draft: Draft,
  request: { readonly node: string; readonly subnet: Subnet; readonly now: Date },
): AdoptedSubnet {
  const { node, subnet, now } = request;
  const record = recordOf(draft, node, subnet);
  if (record === undefined) {
    throw new CalicoError('ipam/unknown-pool-id', { poolId: subnet.cidr });
  }
  // Outside a swarm Docker 24 and later creates networks of scope global itself.
  const { swarm, ...plain } = record;
  if (swarm !== undefined) draft.put('DockerPool', claimOf(record), plain);
  for (const address of Object.values(subnet.auxiliary)) {
    reserve(draft, addressState(draft, address), { record, type: 'auxiliary', now });
  }
  return {
    subnet: { ...withoutUndefined(subnet), poolId: record.poolId },
    nextHop: subnet.gateway ?? record.nextHop,
  };
}

function recordOf(draft: Draft, node: string, subnet: Subnet) {
  const { family, cidr, gateway } = subnet;
  const isGlobal = subnet.addressSpace === swarmAddressSpace;
  const records: DockerPool[] = [];
  for (const [, record] of draft.group('DockerPool', node)) {
    const isUsable = record.swarm === undefined || (isGlobal && record.swarm.network === undefined);
    if (record.family === family && isUsable) records.push(record);
  }
  const byNextHop = records.find(({ nextHop }) => nextHop === gateway);
  if (byNextHop !== undefined) return byNextHop;
  const sharers =
    gateway === undefined ? undefined : sharersOf(findAllocation(draft, gateway)?.holder ?? {});
  const own = sharers?.find((sharer) => sharer.startsWith(`${node}/`))?.slice(node.length + 1);
  const byGateway = records.find(({ poolId }) => parsePoolId(poolId).nonce === own);
  if (byGateway !== undefined) return byGateway;
  // Without a gateway (an internal network): the latest request for this subnet without a network.
  const taken = poolIdsOfNetworks(draft, node);
  return records
    .filter(({ poolId, subnet }) => !taken.has(poolId) && (subnet === undefined || subnet === cidr))
    .toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1))[0];
}

/** Docker chose the subnet: it becomes an IP pool of this host, from which Docker allocates. */
function adoptDockerSubnet(
  draft: Draft,
  request: {
    readonly node: string;
    readonly networkId: string;
    readonly subnet: Subnet;
    readonly stamp: (pool: IpPool) => IpPool;
  },
): AdoptedSubnet {
  const { node, subnet, networkId } = request;
  const stale = dropStalePool(draft, node, subnet.cidr);
  const other = poolOverlapping(draft, subnet.cidr);
  if (other !== undefined && other.metadata.name !== stale?.metadata.name) {
    const host = other.metadata.annotations?.[hostLocal];
    const owner =
      host === undefined
        ? `IP pool ${other.metadata.name} (${other.spec.cidr})`
        : `a network of host ${host} (${other.spec.cidr})`;
    throw new CalicoError('ipam/docker-subnet-taken', { subnet: subnet.cidr, owner });
  }
  if (stale === undefined) rejectSpecialSubnet(subnet.cidr);
  const pool = stale ?? request.stamp(subnetPool(subnet.cidr, { [hostLocal]: node }));
  draft.put('IPPool', pool.metadata.name, pool);
  const { family } = subnet;
  return {
    subnet: withoutUndefined(subnet),
    nextHop: subnet.gateway ?? chooseNextHop(draft, { node, family, nonce: networkId }),
  };
}

/**
 * Deletes the pool of a network of this host that disappeared without a call. A pool too large for one transaction is
 * returned: the new network reuses it, and former allocations are replaced when Docker allocates their addresses.
 */
function dropStalePool(draft: Draft, node: string, cidr: Cidr): IpPool | undefined {
  for (const [, network] of draft.group('DockerNetwork', node)) {
    if (network.subnets.some((subnet) => subnet.cidr === cidr)) return undefined;
  }
  const isStale = ({ metadata, spec }: IpPool) =>
    metadata.annotations?.[hostLocal] === node && spec.cidr === cidr;
  const stale = allPools(draft).find(isStale);
  return stale !== undefined && removePool(draft, stale) === 'more' ? stale : undefined;
}

function bindOwnAddress(
  draft: Draft,
  endpoint: EndpointAddresses,
  { address, now }: { readonly address: IpAddress; readonly now: Date },
): void {
  const { node, endpointId, network } = endpoint;
  const found = findAllocation(draft, address);
  if (found === undefined || mayUse(draft, found.holder, network.id)) {
    // The allocation was lost, but Docker has it: allocate it to this endpoint again.
    const facts = factsOf(endpoint, poolNonce(network, address));
    return assignToUser(draft, addressState(draft, address), { facts, now });
  }
  const { block, holder } = found;
  const { secondary = {} } = holder;
  const present = secondary['endpoint'];
  const isOther =
    sharersOf(holder) !== undefined ||
    secondary['node'] !== node ||
    (present !== undefined && present !== endpointId && isLiving(draft, node, present));
  if (isOther) {
    throw addressTaken(draft, address, holder);
  }
  const facts = factsOf(endpoint, secondary['pool'] ?? '');
  rewriteAllocation(draft, block, {
    address,
    holder: { ...holder, secondary: { ...secondary, ...facts } },
  });
}

/** Docker decides: a former allocation of the address is replaced. */
function bindDockerAddress(
  draft: Draft,
  endpoint: EndpointAddresses,
  { address, now }: { readonly address: IpAddress; readonly now: Date },
): void {
  const { node } = endpoint;
  const found = findAllocation(draft, address);
  if (found !== undefined) {
    const stale = found.holder.secondary?.['endpoint'];
    if (stale === endpoint.endpointId) return putBlock(draft, found.block);
    if (stale !== undefined) removeEndpointOf(draft, node, stale);
    release(draft, found.block, found);
  }
  for (const [id, { spec }] of draft.group('WorkloadEndpoint', address)) {
    if (spec.node === node) draft.remove('WorkloadEndpoint', id);
  }
  const holder = holderWith(address, factsOf(endpoint, 'docker'));
  allocateAddress(draft, addressState(draft, address), { node, holder, now });
}

function factsOf({ node, network, endpointId }: EndpointAddresses, pool: string): AddressFacts {
  return {
    node,
    pool,
    network: network.id,
    endpoint: endpointId,
    ...(network.name === undefined ? {} : { networkName: network.name }),
  };
}

function poolNonce(network: DockerNetwork, address: IpAddress): string {
  const family = address.includes(':') ? 6 : 4;
  const ofFamily = network.subnets.filter((subnet) => subnet.family === family);
  const subnet = ofFamily.find(({ cidr }) => cidrContains(cidr, address)) ?? ofFamily[0];
  return subnet?.poolId === undefined ? '' : parsePoolId(subnet.poolId).nonce;
}

function withoutUndefined({ family, cidr, gateway, auxiliary }: Subnet): NetworkSubnet {
  return {
    family,
    cidr,
    ...(gateway === undefined ? {} : { gateway }),
    ...(Object.keys(auxiliary).length === 0 ? {} : { auxiliary: { ...auxiliary } }),
  };
}
