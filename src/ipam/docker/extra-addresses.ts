import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import {
  dockerAddresses,
  endpointName,
  endpointNamespace,
} from '../../model/kinds/workload-endpoint.ts';
import { rejectOtherUses } from '../pools/pools.ts';
import { allocateAddress, addressState } from '../pools/address-state.ts';
import { addressTaken, findAllocation, type Allocation } from '../records/allocation.ts';
import { releaseUser } from './claims.ts';

/**
 * Addresses that an endpoint has beside those that Docker asked for. Docker knows nothing of them: they are allocated
 * with the endpoint and released with it, and each has one holder at a time.
 */

interface ExtraAddresses {
  readonly node: string;
  readonly endpointId: string;
  readonly addresses: readonly IpAddress[];
}

/**
 * Allocates addresses to an endpoint; those that it holds stay as they are. Throws `ipam/address-taken`,
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
    // Of its own subnets Docker hands out any address, without asking whether another has it.
    if (network.ipam !== 'calico')
      throw new CalicoError('ipam/extra-address-needs-ipam', { address });
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

/** Frees those of the addresses that the endpoint holds. */
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
 * Whether the endpoint that holds an address is gone, or Docker has given back its own addresses: a dockerd that was
 * killed does that before it starts the container again, and says no more of the endpoint. Such an endpoint is removed.
 */
function isLeftBehind(draft: Draft, node: string, { holder }: Allocation): boolean {
  const { endpoint, node: host, pool, holders } = holder.secondary ?? {};
  if (host !== node || endpoint === undefined || pool === undefined || holders !== undefined) {
    return false;
  }
  const id = `${endpointNamespace}/${endpointName(node, endpoint)}`;
  const stored = draft.get('WorkloadEndpoint', id);
  if (stored === undefined) return true;
  const own = dockerAddresses(stored).map((address) => findAllocation(draft, address));
  const isGivenBack = own.every((one) => {
    const secondary = one?.holder.secondary;
    return secondary?.['endpoint'] === endpoint && secondary['givenBackBy'] === endpoint;
  });
  if (own.length === 0 || !isGivenBack) return false;
  for (const address of dockerAddresses(stored)) releaseOf(draft, address);
  draft.remove('WorkloadEndpoint', id);
  return true;
}

/** Looks the address up again: its block may have changed in the draft since somebody looked. */
function releaseOf(draft: Draft, address: IpAddress): void {
  const allocation = findAllocation(draft, address);
  if (allocation !== undefined) releaseUser(draft, allocation);
}
