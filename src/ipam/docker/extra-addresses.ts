import { endpointOf, removeEndpointOf } from '../../cache/endpoint-lookup.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { dockerAddresses, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { rejectOtherUses } from '../pools/pools.ts';
import { allocateAddress, addressState } from '../pools/address-state.ts';
import { addressTaken, findAllocation, type Allocation } from '../records/allocation.ts';
import { formerEndpoint, releaseUser } from './claims.ts';

/**
 * Addresses of an endpoint in addition to those that Docker requested. Docker does not know them: they are allocated
 * and released with the endpoint, and each has one holder at a time.
 */

interface ExtraAddresses {
  readonly node: string;
  readonly endpointId: string;
  readonly addresses: readonly IpAddress[];
}

/**
 * Allocates addresses to an endpoint; addresses that it has already stay as they are. Throws `ipam/address-taken`,
 * `ipam/address-outside`, `ipam/extra-address-needs-ipam`, `ipam/pool-not-for-workloads`.
 */
export function claimExtraAddresses(
  draft: Draft,
  request: ExtraAddresses & {
    readonly network: DockerNetwork;
    readonly holderOf: (address: IpAddress) => AllocationAttributes;
    readonly now: Date;
  },
): void {
  const { node, network, endpointId, addresses, now } = request;
  for (const address of addresses) {
    // Docker's own IPAM allocates any address of its subnets, without checking other users.
    if (network.ipam !== 'calico')
      throw new CalicoError('ipam/extra-address-needs-ipam', { what: `address ${address}` });
    const allocation = findAllocation(draft, address);
    if (allocation !== undefined) {
      if (allocation.holder.secondary?.['endpoint'] === endpointId) continue;
      if (!isLeftBehind(draft, node, allocation))
        throw addressTaken(draft, address, allocation.holder);
      releaseOf(draft, address);
    }
    const state = addressState(draft, address);
    if (state.pool !== undefined) rejectOtherUses(state.pool);
    allocateAddress(draft, state, { node, holder: request.holderOf(address), now });
  }
}

/** Releases those of the addresses that are allocated to the endpoint. */
export function releaseExtraAddresses(
  draft: Draft,
  { endpointId, addresses }: ExtraAddresses,
): void {
  for (const address of addresses) {
    const allocation = findAllocation(draft, address);
    if (allocation?.holder.secondary?.['endpoint'] === endpointId) releaseUser(draft, allocation);
  }
}

/**
 * Reports whether the endpoint of an address no longer exists, or Docker has released its other addresses: a dockerd
 * that was killed does that before it restarts the container, without deleting the endpoint. Such an endpoint is removed.
 */
function isLeftBehind(draft: Draft, node: string, { holder }: Allocation): boolean {
  const { endpoint, node: host, pool, holders } = holder.secondary ?? {};
  if (host !== node || endpoint === undefined || pool === undefined || holders !== undefined) {
    return false;
  }
  const stored = endpointOf(draft, node, endpoint)?.endpoint;
  return stored === undefined || removeGivenBack(draft, stored);
}

/** Removes an endpoint if Docker has released all its addresses; reports whether it did. */
export function removeGivenBack(draft: Draft, stored: WorkloadEndpoint): boolean {
  const { node, endpoint } = stored.spec;
  const own = dockerAddresses(stored).map((address) => findAllocation(draft, address));
  const isGivenBack = own.every((one) => one && formerEndpoint(one.holder) === endpoint);
  if (own.length === 0 || !isGivenBack) return false;
  for (const address of dockerAddresses(stored)) releaseOf(draft, address);
  removeEndpointOf(draft, node, endpoint);
  return true;
}

/** Reads the allocation again, because its block may have changed in the draft. */
function releaseOf(draft: Draft, address: IpAddress): void {
  const allocation = findAllocation(draft, address);
  if (allocation !== undefined) releaseUser(draft, allocation);
}
