import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { AllocationAttributes, Block } from '../../model/kinds/block.ts';
import { containerName, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { allocationOf } from './block.ts';
import { blocksContaining } from './records.ts';

/** Allocations of addresses: lookup, and description for messages. */

/** The keys of an allocation's attributes. With both `pod` and `namespace` Calico would garbage-collect it. */
export interface AddressFacts {
  readonly node: string;
  /** The nonce of the PoolID in Docker's request. */
  readonly pool: string;
  readonly network?: string;
  readonly networkName?: string;
  readonly endpoint?: string;
  readonly container?: string;
}

/** An allocation as found in a block. */
export interface Allocation {
  readonly address: IpAddress;
  readonly block: Block;
  readonly holder: AllocationAttributes;
}

/** Returns the allocation of an address; `undefined` if it is free. */
export function findAllocation(draft: Draft, address: IpAddress): Allocation | undefined {
  for (const block of blocksContaining(draft, address)) {
    const holder = allocationOf(block, address);
    if (holder !== undefined) return { address, block, holder };
  }
  return undefined;
}

/** Returns the endpoint of any host that uses an address, regardless of the blocks. */
export function userOf(draft: Draft, address: IpAddress): WorkloadEndpoint | undefined {
  for (const [, endpoint] of draft.group('WorkloadEndpoint', address)) return endpoint;
  return undefined;
}

/** Returns the error for an address that is allocated already; it names the holder. */
export function addressTaken(
  draft: Draft,
  address: IpAddress,
  holder: AllocationAttributes,
): CalicoError {
  const title = describeAllocation(holder, userOf(draft, address));
  return new CalicoError('ipam/address-taken', { address, holder: title });
}

/** Reports whether an allocation is the address of a tunnel interface, by Calico's attributes. */
export function isTunnelAddress(attributes: AllocationAttributes['secondary']): boolean {
  return attributes?.['type']?.endsWith('TunnelAddress') === true;
}

/** Describes a holder for messages; the endpoint that uses the address knows its container, the record may not. */
export function describeAllocation(
  { handle_id, secondary = {} }: AllocationAttributes,
  user: WorkloadEndpoint | undefined,
): string {
  const { endpoint, networkName, network, type, pod, namespace, swarm } = secondary;
  const node = secondary['node'] ?? user?.spec.node;
  const container = (user && containerName(user)) ?? secondary['container'];
  const on = node === undefined ? '' : ` on host ${node}`;
  if (pod !== undefined) return `pod ${namespace ?? ''}/${pod}${on}`;
  if (isTunnelAddress(secondary)) return `a tunnel interface (${type})${on}`;
  if (type !== undefined) return `the network as its ${type} address${on}`;
  const where = networkName ?? network?.slice(0, 12);
  const of = where === undefined ? '' : ` of network ${where}`;
  if (container !== undefined) return `container ${container}${of}${on}`;
  const id = endpoint ?? user?.spec.endpoint;
  if (id !== undefined) return `endpoint ${id.slice(0, 12)}${of}${on}`;
  if (swarm !== undefined) return 'a task or service of the swarm';
  return `${handle_id ?? 'an unknown owner'}${on}`;
}
