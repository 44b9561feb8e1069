import type { View } from '../../cache/view.ts';
import type { IpAddress } from '../../ip/address.ts';
import {
  cidrContains,
  cidrCovers,
  cidrsOverlap,
  cidrSize,
  splitCidr,
  type Cidr,
} from '../../ip/cidr.ts';
import { countHeld, heldOf, type BriefBlock } from '../../model/briefs.ts';
import { blockHost, type AllocationAttributes, type Block } from '../../model/kinds/block.ts';
import { containerName } from '../../model/kinds/workload-endpoint.ts';
import { poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import { allocatedAddresses } from '../records/block.ts';
import { countReserved } from '../pools/reserved.ts';

/** Usage of a pool. */
export interface Usage {
  readonly name: string;
  readonly cidr: Cidr;
  readonly total: bigint;
  readonly used: bigint;
  /** Reserved by IPReservations; may also be in use, if allocated before the reservation or on request. */
  readonly reserved: bigint;
  /** Neither in use nor reserved. */
  readonly free: bigint;
  readonly blocks: readonly BlockUsage[];
}

export interface BlockUsage {
  readonly cidr: Cidr;
  readonly host: string | undefined;
  readonly total: bigint;
  readonly used: bigint;
  readonly reserved: bigint;
  readonly free: bigint;
}

/** An address used by another host than the block's. */
export interface Borrowed {
  readonly address: IpAddress;
  readonly borrower: string;
  readonly block: Cidr;
  readonly owner: string | undefined;
}

/** Returns the usage of every pool, ordered by name, for `ipam show`. */
export function poolUsage(view: View): readonly Usage[] {
  const blocks = [...view.briefs('Block4'), ...view.briefs('Block6')].map(([, brief]) => brief);
  const reserved = [...view.list('IPReservation').values()].flatMap(
    ({ value }) => value.spec.reservedCIDRs ?? [],
  );
  return [...view.list('IPPool').values()]
    .map(({ value }) => value)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .map((pool) => usageOf(pool, blocks, reserved));
}

/** Returns addresses that hosts borrowed from blocks of other hosts. */
export function borrowedAddresses(view: View): readonly Borrowed[] {
  return allBlocks(view).flatMap((block) =>
    [...allocatedAddresses(block)].flatMap(([address, { secondary }]) => {
      const borrower = secondary?.['node'];
      const owner = blockHost(block);
      const isBorrowed = borrower !== undefined && borrower !== owner;
      return isBorrowed ? [{ address, borrower, block: block.cidr, owner }] : [];
    }),
  );
}

/** Returns the inconsistencies of the IPAM data, one sentence each, for `ipam check`. */
export function checkIpam(view: View): readonly string[] {
  const problems: string[] = [];
  const inUse = new Map<IpAddress, string>();
  for (const { value } of view.list('WorkloadEndpoint').values()) {
    const { ipNetworks = [], endpoint, node } = value.spec;
    const name = containerName(value);
    const container = name === undefined ? '' : `container ${name}, `;
    for (const network of ipNetworks) {
      const user = `${container}endpoint ${endpoint.slice(0, 12)} on host ${node}`;
      const { address } = splitCidr(network);
      const other = inUse.get(address);
      if (other !== undefined) problems.push(`${address} is used by ${other} and by ${user}`);
      inUse.set(address, user);
    }
  }
  const held = new Map<IpAddress, AllocationAttributes>();
  for (const block of allBlocks(view)) {
    problems.push(...blockProblems(block));
    for (const [address, holder] of allocatedAddresses(block)) held.set(address, holder);
  }
  const handles = new Map<string, number>();
  const tunnels = tunnelAddresses(view);
  for (const [address, { handle_id: handle, secondary }] of held) {
    if (handle !== undefined) handles.set(handle, (handles.get(handle) ?? 0) + 1);
    const isShared = secondary?.['holders'] !== undefined || secondary?.['swarm'] !== undefined;
    if (!inUse.has(address) && !isShared && !tunnels.has(address)) {
      problems.push(
        `${address} is allocated (${handle ?? 'no handle'}) but not used by an endpoint; release it: calico-cnm ipam release ${address}`,
      );
    }
  }
  const pools = [...view.list('IPPool').values()].map(({ value }) => value);
  for (const [address, endpoint] of inUse) {
    if (held.has(address)) continue;
    const isPooled = pools.some(
      (pool) => poolIsEnabled(pool) && cidrContains(pool.spec.cidr, address),
    );
    problems.push(
      isPooled
        ? `${address} is used by ${endpoint} but not allocated; allocate it: calico-cnm ipam check --fix`
        : `${address} is used by ${endpoint} but not in an enabled IP pool`,
    );
  }
  for (const [id, { value }] of view.list('Handle')) {
    const recorded = Object.values(value.block ?? {}).reduce((sum, count) => sum + count, 0);
    const actual = handles.get(id) ?? 0;
    if (recorded !== actual) {
      problems.push(
        `handle ${id} counts ${recorded} ${recorded === 1 ? 'address' : 'addresses'}; ${actual} ${actual === 1 ? 'is' : 'are'} allocated`,
      );
    }
    handles.delete(id);
  }
  for (const id of handles.keys()) {
    problems.push(`handle ${id} does not exist, but addresses are allocated to it`);
  }
  return problems;
}

/** Returns the addresses of the nodes' tunnels. */
function tunnelAddresses(view: View): ReadonlySet<string> {
  return new Set(
    [...view.list('Node').values()].flatMap(({ value: { spec } }) => [
      spec.bgp?.ipv4IPIPTunnelAddr ?? '',
      spec.ipv4VXLANTunnelAddr ?? '',
      spec.ipv6VXLANTunnelAddr ?? '',
      spec.wireguard?.interfaceIPv4Address ?? '',
      spec.wireguard?.interfaceIPv6Address ?? '',
    ]),
  );
}

function usageOf(pool: IpPool, blocks: readonly BriefBlock[], reserved: readonly Cidr[]): Usage {
  const { cidr } = pool.spec;
  const own = blocks.filter((block) => cidrCovers(cidr, block.cidr));
  return {
    name: pool.metadata.name,
    ...countsOf(cidr, own, reserved),
    blocks: own.map((block) => ({
      host: block.host,
      ...countsOf(block.cidr, [block], reserved),
    })),
  };
}

function countsOf(cidr: Cidr, blocks: readonly BriefBlock[], ranges: readonly Cidr[]) {
  const [total, used] = [
    cidrSize(cidr),
    BigInt(blocks.reduce((sum, one) => sum + countHeld(one), 0)),
  ];
  // Which addresses are held matters only where some are reserved.
  const touched = blocks.filter((block) => ranges.some((range) => cidrsOverlap(range, block.cidr)));
  const { reserved, both } = countReserved(cidr, ranges, touched.flatMap(heldOf));
  return { cidr, total, used, reserved, free: total - used - reserved + both };
}

function blockProblems(block: Block): readonly string[] {
  const free = new Set(block.unallocated);
  const attributes = block.attributes?.length ?? 0;
  const problems: string[] = [];
  if (free.size !== (block.unallocated?.length ?? 0)) {
    problems.push(`block ${block.cidr} lists a free address twice`);
  }
  for (const [ordinal, index] of block.allocations.entries()) {
    if ((index === null) !== free.has(ordinal)) {
      problems.push(`block ${block.cidr}: address ${ordinal} is both free and in use, or neither`);
    }
    if (index !== null && index >= attributes) {
      problems.push(`block ${block.cidr}: address ${ordinal} has no attributes`);
    }
  }
  return problems;
}

function allBlocks(view: View): readonly Block[] {
  return [...view.list('Block4').values(), ...view.list('Block6').values()].map(
    ({ value }) => value,
  );
}
