import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { AllocationAttributes, Block } from '../../model/kinds/block.ts';
import { containerName, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { allocationOf } from './block.ts';
import { blocksContaining } from './records.ts';

/** Who holds an address: as it is recorded, and in words. */

/** The keys of an allocation's attributes. `pod` and `namespace` together would make Calico collect it. */
export interface AddressFacts {
  readonly node: string;
  /** The nonce of the PoolID under which Docker asked. */
  readonly pool: string;
  readonly network?: string;
  readonly networkName?: string;
  readonly endpoint?: string;
  readonly container?: string;
}

/** An allocation as it was found. */
export interface Allocation {
  readonly address: IpAddress;
  readonly block: Block;
  readonly holder: AllocationAttributes;
}

/** Who holds an address now; `undefined` if nobody does. */
export function findAllocation(draft: Draft, address: IpAddress): Allocation | undefined {
  for (const block of blocksContaining(draft, address)) {
    const holder = allocationOf(block, address);
    if (holder !== undefined) return { address, block, holder };
  }
  return undefined;
}

/** The endpoint of any host that uses an address, whatever the blocks say. */
export function userOf(draft: Draft, address: IpAddress): WorkloadEndpoint | undefined {
  for (const [, endpoint] of draft.group('WorkloadEndpoint', address)) return endpoint;
  return undefined;
}

/** The refusal of an address that somebody has, which says who. */
export function addressTaken(
  draft: Draft,
  address: IpAddress,
  holder: AllocationAttributes,
): CalicoError {
  const title = describeAllocation(holder, userOf(draft, address));
  return new CalicoError('ipam/address-taken', { address, holder: title });
}

/** A holder in words, for messages; the endpoint that uses the address knows its container, the record may not. */
export function describeAllocation(
  { handle_id, secondary = {} }: AllocationAttributes,
  user: WorkloadEndpoint | undefined,
): string {
  const { endpoint, networkName, network, type, pod, namespace, swarm } = secondary;
  const node = secondary['node'] ?? user?.spec.node;
  const container = (user && containerName(user)) ?? secondary['container'];
  const on = node === undefined ? '' : ` on host ${node}`;
  if (pod !== undefined) return `pod ${namespace ?? ''}/${pod}${on}`;
  if (type !== undefined) return `the network as its ${type} address${on}`;
  const where = networkName ?? network?.slice(0, 12);
  const of = where === undefined ? '' : ` of network ${where}`;
  if (container !== undefined) return `container ${container}${of}${on}`;
  const id = endpoint ?? user?.spec.endpoint;
  if (id !== undefined) return `endpoint ${id.slice(0, 12)}${of}${on}`;
  if (swarm !== undefined) return 'a task or service of the swarm';
  return `${handle_id ?? 'an unknown owner'}${on}`;
}
