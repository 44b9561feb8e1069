import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { tryParseAddress, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { cidrContains, parseCidr } from '../../ip/cidr.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import {
  poolFamily,
  poolIsEnabled,
  poolNodeSelector,
  poolServesTunnels,
  type IpPool,
} from '../../model/kinds/ip-pool.ts';
import type { Node } from '../../model/kinds/node.ts';
import { matches } from '../../model/selector/matches.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { allocate } from '../blocks/allocate.ts';
import { allPools, reservedRanges } from '../pools/pools.ts';
import { findAllocation, userOf } from '../records/allocation.ts';
import { allocatedAddresses } from '../records/block.ts';
import { getBlock, release } from '../records/records.ts';

/**
 * Addresses of tunnel interfaces, allocated from IP pools and recorded in the Node, in one transaction. Handles,
 * attributes and the choice of pools are Calico's. Source: node/pkg/allocateip/allocateip.go.
 */

/** A kind of tunnel with one address per node. */
export interface TunnelType {
  readonly family: IpFamily;
  /** As text for people. */
  readonly text: string;
  /** Attribute `type` of the allocation. */
  readonly type: string;
  /** The handle is this and the node's name. */
  readonly handlePrefix: string;
  /** Returns the address that the Node records. */
  readonly recorded: (node: Node) => string | undefined;
  /** Returns the Node with another address, or without one. */
  readonly record: (node: Node, address: IpAddress | undefined) => Node;
}

function inSpec(
  field: 'ipv4VXLANTunnelAddr' | 'ipv6VXLANTunnelAddr',
): Pick<TunnelType, 'recorded' | 'record'> {
  return {
    recorded: ({ spec }) => spec[field],
    record: (node, address) => {
      const { [field]: _, ...spec } = node.spec;
      return { ...node, spec: address === undefined ? spec : { ...spec, [field]: address } };
    },
  };
}

/** An empty `spec.bgp` is not allowed. */
const inBgp: Pick<TunnelType, 'recorded' | 'record'> = {
  recorded: ({ spec }) => spec.bgp?.ipv4IPIPTunnelAddr,
  record: (node, address) => {
    const { bgp: before, ...others } = node.spec;
    const { ipv4IPIPTunnelAddr: _, ...rest } = before ?? {};
    const bgp = address === undefined ? rest : { ...rest, ipv4IPIPTunnelAddr: address };
    return { ...node, spec: Object.keys(bgp).length === 0 ? others : { ...others, bgp } };
  },
};

/** By tunnel, as named in `routing/tunnels.ts`. */
export const tunnelTypes: Readonly<Record<'vxlan4' | 'vxlan6' | 'ipip4', TunnelType>> = {
  vxlan4: {
    family: 4,
    text: 'VXLAN',
    type: 'vxlanTunnelAddress',
    handlePrefix: 'vxlan-tunnel-addr-',
    ...inSpec('ipv4VXLANTunnelAddr'),
  },
  vxlan6: {
    family: 6,
    text: 'VXLAN',
    type: 'vxlanV6TunnelAddress',
    handlePrefix: 'vxlan-v6-tunnel-addr-',
    ...inSpec('ipv6VXLANTunnelAddr'),
  },
  ipip4: {
    family: 4,
    text: 'IPIP',
    type: 'ipipTunnelAddress',
    handlePrefix: 'ipip-tunnel-addr-',
    ...inBgp,
  },
};

/**
 * A plan that gives a node the address of one kind of tunnel, or takes it away if no pool for the tunnel selects the
 * node. An address stays as long as it is allocated to the node and inside such a pool; otherwise it is released, and
 * replaced. Returns the address. Throws `ipam/full`, `ipam/block-limit` or `ipam/no-new-blocks`.
 */
export function keepTunnelAddress(
  draft: Draft,
  request: {
    readonly node: string;
    readonly tunnel: TunnelType;
    /** Whether addresses of a pool are reached through the tunnel. */
    readonly isForPool: (pool: IpPool) => boolean;
    readonly now: Date;
  },
): IpAddress | undefined {
  const { node: name, tunnel, isForPool, now } = request;
  const node = draft.get('Node', name);
  if (node === undefined) return undefined;
  const pools = allPools(draft).filter((pool) => serves(pool, node, tunnel) && isForPool(pool));
  const stored = tunnel.recorded(node) ?? '';
  const current = tryParseAddress(stored);
  if (current !== undefined && isKept(draft, current, { holder: holderOf(name, tunnel), pools })) {
    return current;
  }
  if (stored === '' && pools.length === 0) return undefined;
  releaseTunnelAddress(draft, name, tunnel);
  if (pools.length === 0) {
    draft.put('Node', name, tunnel.record(node, undefined));
    return undefined;
  }
  const holder = holderOf(name, tunnel);
  const reserved = reservedRanges(draft);
  const address = allocate(draft, { node: name, pools, reserved, now, holder: () => holder });
  if (address === undefined) {
    const where = `the IP pools for ${tunnel.text} (${pools.map(({ metadata }) => metadata.name).join(', ')})`;
    throw new CalicoError('ipam/no-tunnel-address', { node: name, where });
  }
  draft.put('Node', name, tunnel.record(node, address));
  return address;
}

/** Releases all addresses of a node for a kind of tunnel; does nothing if there are none. */
export function releaseTunnelAddress(draft: Draft, node: string, tunnel: TunnelType): void {
  const { handle_id: id } = holderOf(node, tunnel);
  if (id === undefined) return;
  const blocks = Object.keys(draft.get('Handle', id)?.block ?? {});
  const recordedBy = draft.get('Node', node);
  const stored = tryParseAddress((recordedBy && tunnel.recorded(recordedBy)) ?? '');
  const found = stored === undefined ? undefined : findAllocation(draft, stored);
  // The handle may be missing while the address is allocated to it.
  const cidrs = new Set([...blocks, ...(found === undefined ? [] : [found.block.cidr])]);
  for (const cidr of cidrs) {
    for (;;) {
      const block = getBlock(draft, parseCidr(cidr));
      if (block === undefined) break;
      const next = [...allocatedAddresses(block)].find(([, holder]) => holder.handle_id === id);
      if (next === undefined) break;
      const [address, holder] = next;
      release(draft, block, { address, holder });
    }
  }
}

function serves(pool: IpPool, node: Node, { family }: TunnelType): boolean {
  const labels = new Map(Object.entries(node.metadata.labels ?? {}));
  return (
    poolFamily(pool) === family &&
    poolIsEnabled(pool) &&
    poolServesTunnels(pool) &&
    matches(parseSelector(poolNodeSelector(pool)), labels)
  );
}

/** Reports whether the address is allocated to this tunnel, used by nothing else, and inside one of the pools. */
function isKept(
  draft: Draft,
  address: IpAddress,
  { holder, pools }: { readonly holder: AllocationAttributes; readonly pools: readonly IpPool[] },
): boolean {
  const found = findAllocation(draft, address)?.holder;
  return (
    found?.secondary?.['type'] === holder.secondary?.['type'] &&
    found?.secondary?.['node'] === holder.secondary?.['node'] &&
    userOf(draft, address) === undefined &&
    pools.some(({ spec }) => cidrContains(spec.cidr, address))
  );
}

function holderOf(node: string, { type, handlePrefix }: TunnelType): AllocationAttributes {
  return { handle_id: `${handlePrefix}${node}`, secondary: { node, type } };
}
