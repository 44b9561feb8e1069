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
import { refuseOtherUses } from '../pools/pools.ts';
import { give, standingOf } from '../pools/standing.ts';
import { addressTaken, lookUpHolder, type Held } from '../records/holder.ts';
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
    const held = lookUpHolder(draft, address);
    if (held !== undefined) {
      if (held.holder.secondary?.['endpoint'] === endpointId) continue;
      if (!isLeftBehind(draft, node, held)) throw addressTaken(draft, address, held.holder);
      releaseOf(draft, address);
    }
    const standing = standingOf(draft, address);
    if (standing.pool !== undefined) refuseOtherUses(standing.pool);
    give(draft, standing, { node, holder: request.holderOf(address), now });
  }
}

/** Frees those of the addresses that the endpoint holds. */
export function releaseExtraAddresses(
  draft: Draft,
  { endpointId, addresses }: ExtraAddresses,
): void {
  for (const address of addresses) {
    const held = lookUpHolder(draft, address);
    if (held?.holder.secondary?.['endpoint'] === endpointId) releaseUser(draft, held);
  }
}

/**
 * Whether the endpoint that holds an address is gone, or Docker has given back its own addresses: a dockerd that was
 * killed does that before it starts the container again, and says no more of the endpoint. Such an endpoint is removed.
 */
function isLeftBehind(draft: Draft, node: string, { holder }: Held): boolean {
  const { endpoint, node: host, pool, holders } = holder.secondary ?? {};
  if (host !== node || endpoint === undefined || pool === undefined || holders !== undefined) {
    return false;
  }
  const id = `${endpointNamespace}/${endpointName(node, endpoint)}`;
  const stored = draft.get('WorkloadEndpoint', id);
  if (stored === undefined) return true;
  const own = dockerAddresses(stored).map((address) => lookUpHolder(draft, address));
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
  const held = lookUpHolder(draft, address);
  if (held !== undefined) releaseUser(draft, held);
}
