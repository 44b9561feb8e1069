import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import { cidrCovers, cidrFamily, cidrsOverlap, splitCidr, type Cidr } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { UsedRange } from './default-pools.ts';
import {
  allPools,
  hostLocal,
  createdForSubnet,
  partsOf,
  poolOverlapping,
  rejectOtherUses,
  rejectSpecialSubnet,
} from './pools.ts';

/** IP pools for a subnet: created for it, or existing ones that contain it. */

/** A requested subnet. */
export interface SubnetRequest {
  readonly subnet: Cidr;
  /** The part of it that addresses are allocated from. */
  readonly range?: Cidr;
  /** Names of the pools that must contain it. */
  readonly ipPools?: readonly string[];
  /** Ranges that a subnet without an IP pool must not overlap. */
  readonly used?: readonly UsedRange[];
  /** Gives a new resource uid and creation time. */
  readonly stamp: (pool: IpPool) => IpPool;
}

/** Returns the name of the IP pool of a subnet, which is created if no pool contains it; throws `ipam/…`. */
export function poolForSubnet(draft: Draft, request: SubnetRequest): string {
  const { subnet, range, ipPools } = request;
  if (range !== undefined && !cidrCovers(subnet, range)) {
    throw new CalicoError('ipam/bad-subnet', {
      subnet,
      why: `does not contain --ip-range ${range}`,
    });
  }
  const [covering, ...others] = poolsForSubnet(allPools(draft), subnet);
  if (ipPools !== undefined) {
    const isNamed = covering !== undefined && ipPools.includes(covering.metadata.name);
    if (!isNamed) {
      throw new CalicoError('ipam/subnet-not-in-pools', { subnet, pools: ipPools.join(', ') });
    }
  }
  // A subnet that Docker requests again when it starts already has its pool.
  const isMade = covering?.metadata.annotations?.[createdForSubnet] !== undefined;
  if (!isMade) rejectSpecialSubnet(subnet);
  if (covering !== undefined) {
    for (const pool of [covering, ...others]) checkForSubnet(draft, pool, subnet);
    return others.length === 0 ? covering.metadata.name : subnetPoolName(subnet);
  }
  const overlapping = poolOverlapping(draft, subnet);
  if (overlapping !== undefined) {
    const { metadata, spec } = overlapping;
    throw new CalicoError('ipam/subnet-overlaps', { subnet, pool: metadata.name, cidr: spec.cidr });
  }
  checkSubnet(subnet);
  const inUse = request.used?.find(({ cidr }) => cidrsOverlap(cidr, subnet));
  if (inUse !== undefined) {
    throw new CalicoError('ipam/subnet-in-use', { subnet, what: inUse.what, cidr: inUse.cidr });
  }
  const made = subnetPool(subnet, { [createdForSubnet]: subnet });
  const vxlanMode = definedMode(draft, subnet);
  const pool = request.stamp({ ...made, spec: { ...made.spec, vxlanMode } });
  draft.put('IPPool', pool.metadata.name, pool);
  return pool.metadata.name;
}

/** Returns the encapsulation for the pool of a subnet: as the definition of its network says, else none. */
function definedMode(draft: Draft, subnet: Cidr): 'Always' | 'CrossSubnet' | 'Never' {
  for (const [, { subnets, vxlanMode }] of draft.entries('NetworkDefinition')) {
    if (vxlanMode !== undefined && subnets.some(({ cidr }) => cidr === subnet)) return vxlanMode;
  }
  return 'Never';
}

/** Returns the pool that contains a subnet, or the pools that such a pool was split into. */
export function poolsForSubnet(pools: readonly IpPool[], subnet: Cidr): readonly IpPool[] {
  const covering = pools.find(({ spec }) => cidrCovers(spec.cidr, subnet));
  return covering === undefined ? partsOf(pools, subnet) : [covering];
}

/** Throws if a subnet cannot be served by an existing pool. */
function checkForSubnet(draft: Draft, pool: IpPool, subnet: Cidr): void {
  const { metadata, spec } = pool;
  if (metadata.annotations?.[hostLocal] !== undefined) {
    throw new CalicoError('ipam/subnet-overlaps', { subnet, pool: metadata.name, cidr: spec.cidr });
  }
  rejectOtherUses(pool);
  // A concurrent removal of the pool checks for networks that use it, and must see this one.
  draft.expect('IPPool', metadata.name);
}

function checkSubnet(subnet: Cidr): void {
  const family: IpFamily = cidrFamily(subnet);
  const { prefixLength } = splitCidr(subnet);
  if (prefixLength < (family === 4 ? 8 : 16)) {
    throw new CalicoError('ipam/bad-subnet', { subnet, why: 'too large' });
  }
}

/** The names of IP pools created for subnets begin with it: the only ones that a node of a cluster may write. */
export const subnetPoolPrefix = 'subnet-';

/** Returns the name of the IP pool of a subnet: `subnet-10-99-0-0-16`. */
export function subnetPoolName(subnet: string): string {
  return `${subnetPoolPrefix}${subnet.replaceAll(/[^0-9a-f]+/g, '-')}`;
}

/** Returns the IP pool that the driver creates for one subnet. */
export function subnetPool(subnet: Cidr, annotations: Readonly<Record<string, string>>): IpPool {
  const family = cidrFamily(subnet);
  const blockSize = Math.max(splitCidr(subnet).prefixLength, family === 4 ? 26 : 122);
  return {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: subnetPoolName(subnet), annotations: { ...annotations } },
    spec: {
      cidr: subnet,
      blockSize,
      ipipMode: 'Never',
      vxlanMode: 'Never',
      natOutgoing: family === 4,
      nodeSelector: 'all()',
      allowedUses: ['Workload', 'Tunnel'],
    },
  };
}
