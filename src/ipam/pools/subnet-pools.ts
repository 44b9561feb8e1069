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

/** IP pools that are made for a subnet, and those that are there for one. */

/** A subnet that is asked for. */
export interface SubnetRequest {
  readonly subnet: Cidr;
  /** A part of it that addresses come from. */
  readonly range?: Cidr;
  /** Names of the pools that it must be inside of. */
  readonly ipPools?: readonly string[];
  /** Ranges that a subnet without an IP pool must not overlap. */
  readonly used?: readonly UsedRange[];
  /** Gives a new resource uid and creation time. */
  readonly stamp: (pool: IpPool) => IpPool;
}

/** The name of the IP pool of a subnet, which is made if no pool has it; throws `ipam/…` for one that cannot be. */
export function poolForSubnet(draft: Draft, request: SubnetRequest): string {
  const { subnet, range, ipPools } = request;
  if (range !== undefined && !cidrCovers(subnet, range)) {
    throw new CalicoError('ipam/bad-subnet', {
      subnet,
      why: `it does not hold --ip-range ${range}`,
    });
  }
  const [covering, ...others] = poolsForSubnet(allPools(draft), subnet);
  if (ipPools !== undefined) {
    const isNamed = covering !== undefined && ipPools.includes(covering.metadata.name);
    if (!isNamed) {
      throw new CalicoError('ipam/subnet-not-in-pools', { subnet, pools: ipPools.join(', ') });
    }
  }
  // What Docker asks for again when it starts has been made already.
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
  const pool = request.stamp(subnetPool(subnet, { [createdForSubnet]: subnet }));
  draft.put('IPPool', pool.metadata.name, pool);
  return pool.metadata.name;
}

/** The pool that holds a subnet, or those that such a one was split into. */
export function poolsForSubnet(pools: readonly IpPool[], subnet: Cidr): readonly IpPool[] {
  const covering = pools.find(({ spec }) => cidrCovers(spec.cidr, subnet));
  return covering === undefined ? partsOf(pools, subnet) : [covering];
}

/** Throws why a subnet cannot be of a pool that is there. */
function checkForSubnet(draft: Draft, pool: IpPool, subnet: Cidr): void {
  const { metadata, spec } = pool;
  if (metadata.annotations?.[hostLocal] !== undefined) {
    throw new CalicoError('ipam/subnet-overlaps', { subnet, pool: metadata.name, cidr: spec.cidr });
  }
  rejectOtherUses(pool);
  // Whoever removes it at this moment looks for networks that use it, and finds that one came.
  draft.expect('IPPool', metadata.name);
}

function checkSubnet(subnet: Cidr): void {
  const family: IpFamily = cidrFamily(subnet);
  const { prefixLength } = splitCidr(subnet);
  if (prefixLength < (family === 4 ? 8 : 16)) {
    throw new CalicoError('ipam/bad-subnet', { subnet, why: 'it is too large' });
  }
}

/** A name for the IP pool of a subnet: `subnet-10-99-0-0-16`. */
export function subnetPoolName(subnet: string): string {
  return `subnet-${subnet.replaceAll(/[^0-9a-f]+/g, '-')}`;
}

/** An IP pool for one subnet, as the driver makes it. */
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
