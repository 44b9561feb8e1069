import type { Draft } from '../../datastore/writer.ts';
import { familyOf, type IpAddress } from '../../ip/address.ts';
import { cidrContains, cidrOf, hostCidr } from '../../ip/cidr.ts';
import { poolBlockSize } from '../../model/kinds/ip-pool.ts';
import {
  endpointAddresses,
  endpointAnnotations,
  orchestrator,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { holderWith } from '../docker/addresses.ts';
import { allocateAddress, addressState } from '../pools/address-state.ts';
import { allocatedAddresses } from '../records/block.ts';
import { findAllocation } from '../records/allocation.ts';
import { blocksOfOtherSizes, unreadableBlocks } from '../blocks/claim.ts';
import { blocksContaining } from '../records/records.ts';
import { parsePoolId } from '../docker/pool-id.ts';
import { poolOf } from '../pools/pools.ts';

/** Repairs addresses in use that look free: after `calicoctl ipam release` of a used one, or a lost block. */

/** Maximum of repairs per plan: an address in a lost block touches a dozen keys, and a transaction is limited. */
export const maxRepairs = 8;

/**
 * Allocates addresses that the given Docker endpoints use but no block records, as CreateEndpoint did. Returns the
 * addresses, `maxRepairs` at most; addresses that cannot be allocated stay as they are. Nothing is released, and
 * endpoints of other orchestrators are not touched.
 */
export function allocateInUse(
  draft: Draft,
  { endpointIds, now }: { readonly endpointIds: Iterable<string>; readonly now: Date },
): readonly IpAddress[] {
  const repaired: IpAddress[] = [];
  for (const id of endpointIds) {
    const endpoint = draft.get('WorkloadEndpoint', id);
    if (endpoint?.spec.orchestrator !== orchestrator) continue;
    // A concurrent removal of the endpoint releases its address.
    for (const address of endpointAddresses(endpoint)) {
      if (repaired.length >= maxRepairs) return repaired;
      if (!isAllocatable(draft, address)) continue;
      draft.expect('WorkloadEndpoint', id);
      const holder = holderWith(address, factsOf(draft, endpoint, address));
      const state = addressState(draft, address);
      allocateAddress(draft, state, { node: endpoint.spec.node, holder, now, isUsersOwn: true });
      repaired.push(address);
    }
  }
  return repaired;
}

/** Reports whether an address is free, in a pool, and in no block that overlaps one of another size or is unreadable. */
function isAllocatable(draft: Draft, address: IpAddress): boolean {
  const pool = poolOf(draft, address);
  if (pool === undefined || findAllocation(draft, address) !== undefined) return false;
  const [family, blockSize] = [familyOf(address), poolBlockSize(pool)];
  const [block] = blocksContaining(draft, address);
  const cidr = block === undefined ? cidrOf(address, blockSize) : hostCidr(address);
  if (unreadableBlocks(draft, family)(cidr) !== undefined) return false;
  if (block !== undefined) return true;
  return blocksOfOtherSizes(draft, { family, blockSize })(cidr).every(({ held }) => held === 0n);
}

/** Returns the attributes of an allocation to an endpoint, from the stored endpoint and network. */
function factsOf(draft: Draft, endpoint: WorkloadEndpoint, address: IpAddress) {
  const { node, endpoint: id } = endpoint.spec;
  const networkId = endpoint.metadata.annotations?.[endpointAnnotations.network];
  const network =
    networkId === undefined ? undefined : draft.get('DockerNetwork', `${node}/${networkId}`);
  const family = address.includes(':') ? 6 : 4;
  const subnets = (network?.subnets ?? []).filter((subnet) => subnet.family === family);
  const subnet = subnets.find(({ cidr }) => cidrContains(cidr, address)) ?? subnets[0];
  const pool = subnet?.poolId === undefined ? 'docker' : parsePoolId(subnet.poolId).nonce;
  return {
    node,
    pool,
    endpoint: id,
    ...(network === undefined ? {} : { network: network.id }),
    ...(network?.name === undefined ? {} : { networkName: network.name }),
  };
}

/** Recounts handles from the blocks; returns those that were changed, `maxRepairs` at most. */
export function recountHandles(draft: Draft): readonly string[] {
  const counted = new Map<string, Record<string, number>>();
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const [, block] of draft.entries(kind)) {
      for (const [, { handle_id: id }] of allocatedAddresses(block)) {
        if (id === undefined) continue;
        const counts = counted.get(id) ?? {};
        counts[block.cidr] = (counts[block.cidr] ?? 0) + 1;
        counted.set(id, counts);
      }
    }
  }
  const changed: string[] = [];
  const known = new Set([...draft.entries('Handle')].map(([id]) => id));
  for (const id of known.union(new Set(counted.keys()))) {
    const handle = draft.get('Handle', id) ?? { deleted: false };
    const counts = counted.get(id) ?? {};
    if (changed.length >= maxRepairs) break;
    if (known.has(id) && isSame(handle.block ?? {}, counts)) continue;
    for (const cidr of Object.keys(counts))
      draft.expect(cidr.includes(':') ? 'Block6' : 'Block4', cidr);
    if (Object.keys(counts).length === 0) draft.remove('Handle', id);
    else draft.put('Handle', id, { ...handle, block: counts });
    changed.push(id);
  }
  return changed;
}

function isSame(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
