import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrCovers, cidrFamily, cidrsOverlap, splitCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import { poolFamily, poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import { heldAddresses, holderOf } from '../records/block.ts';
import type { UsedRange } from '../pools/default-pools.ts';
import { chooseNextHop } from './next-hop.ts';
import { formatPoolId, isOwnPoolId, parsePoolId, type PoolFacts } from './pool-id.ts';
import {
  allPools,
  candidatePools,
  hostLocal,
  madeForSubnet,
  partsOf,
  poolOverlapping,
  refuseOtherUses,
  refuseSpecialSubnet,
} from '../pools/pools.ts';
import { expectBlocksWithin } from '../blocks/overlapping-blocks.ts';
import { blockKind, getBlock, release, removeBlock } from '../records/records.ts';

/**
 * The pools that Docker asks our IPAM for. Each request has a record of its own on its host; an IP pool that
 * was made for a subnet stays as long as a record of any host refers to it.
 */

export interface PoolRequest extends PoolFacts {
  readonly node: string;
  readonly now: Date;
  /** Ranges that a subnet without an IP pool must not overlap. */
  readonly used?: readonly UsedRange[];
  /** Gives a new resource uid and creation time. */
  readonly stamp: (pool: IpPool) => IpPool;
}

/** The datastore id of a pool record. */
export function poolRecordId(node: string, nonce: string): string {
  return `${node}/${nonce}`;
}

/** Makes the record of a request, and an IP pool for a new subnet; throws `ipam/…`. */
export function requestPool(draft: Draft, request: PoolRequest): DockerPool {
  const { node, family, subnet, range, ipPools, forSwarm, nonce, now } = request;
  const ipPool = subnet === undefined ? undefined : poolForSubnet(draft, { ...request, subnet });
  if (subnet === undefined) candidatePools(draft, { node, family, names: ipPools });
  const ipPoolCidrs = Object.fromEntries(
    (ipPools ?? []).flatMap((name) => {
      const named = draft.get('IPPool', name);
      return named === undefined ? [] : [[name, named.spec.cidr]];
    }),
  );
  const record: DockerPool = {
    poolId: formatPoolId(request),
    node,
    family,
    ...(subnet === undefined ? {} : { subnet }),
    ...(range === undefined ? {} : { range }),
    ...(ipPools === undefined ? {} : { ipPools: [...ipPools], ipPoolCidrs }),
    ...(ipPool === undefined ? {} : { ipPool }),
    nextHop: chooseNextHop(draft, { node, family, nonce }),
    ...(forSwarm === true ? { swarm: {} } : {}),
    createdAt: now.toISOString(),
  };
  draft.put('DockerPool', poolRecordId(node, nonce), record);
  return record;
}

/** The record behind a PoolID, made again if it was lost; throws `ipam/unknown-pool-id`. */
export function poolRecord(
  draft: Draft,
  poolId: string,
  request: Pick<PoolRequest, 'node' | 'now' | 'stamp'>,
): DockerPool {
  const facts = parsePoolId(poolId);
  return (
    draft.get('DockerPool', poolRecordId(request.node, facts.nonce)) ??
    requestPool(draft, { ...facts, ...request })
  );
}

/** The PoolIDs that networks of a host go by. */
export function poolIdsOfNetworks(draft: Draft, node: string): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const [, network] of draft.group('DockerNetwork', node)) {
    for (const { poolId } of network.subnets) if (poolId !== undefined) ids.add(poolId);
  }
  return ids;
}

/**
 * Drops a record, and with the last one the IP pool that was made for its subnet; nothing if we know of none.
 * Answers as `removePool` does.
 */
export function releasePool(draft: Draft, poolId: string, node: string): Progress {
  if (!isOwnPoolId(poolId)) return 'done';
  const id = poolRecordId(node, parsePoolId(poolId).nonce);
  const record = draft.get('DockerPool', id);
  if (record === undefined) return 'done';
  if (record.ipPool !== undefined && dropUnusedPools(draft, record.ipPool, id) === 'more') {
    return 'more';
  }
  draft.remove('DockerPool', id);
  return 'done';
}

/** The pools that addresses of a record may come from; of one that was split, its parts. */
export function poolsOfRecord(draft: Draft, record: DockerPool): readonly IpPool[] {
  const { subnet } = record;
  if (record.ipPool === undefined || subnet === undefined) {
    return candidatePools(draft, {
      node: record.node,
      family: record.family,
      names: record.ipPools,
      cidrs: record.ipPoolCidrs,
    });
  }
  const pool = draft.get('IPPool', record.ipPool);
  if (pool !== undefined) return [pool];
  const parts = poolsForSubnet(allPools(draft).filter(poolIsEnabled), subnet);
  if (parts.length > 0) return parts;
  throw new CalicoError('ipam/unknown-pool', { name: record.ipPool, known: 'none of that name' });
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

/** How many keys a step of a pool's removal touches: as many again may go with the last one. */
const stepKeys = 60;

/**
 * Removes an IP pool with all its blocks, if none was made or changed meanwhile. Of a pool that has more of them
 * than a transaction holds only some go, and the pool stays: `more` says that this plan is to be carried out again.
 */
export function removePool(draft: Draft, pool: IpPool): Progress {
  expectBlocksWithin(draft, pool.spec.cidr);
  let left = stepKeys;
  for (const [, block] of draft.entries(blockKind(poolFamily(pool)))) {
    if (!cidrCovers(pool.spec.cidr, block.cidr)) continue;
    const held = [...heldAddresses(block)];
    // The block, its affinity, and a handle for each address at most.
    const keys = held.length + 2;
    if (keys > left && left < stepKeys) return 'more';
    if (keys > stepKeys) {
      for (const [address] of held.slice(0, stepKeys)) releaseHeld(draft, block.cidr, address);
      return 'more';
    }
    removeBlock(draft, block);
    left -= keys;
  }
  draft.remove('IPPool', pool.metadata.name);
  return 'done';
}

function releaseHeld(draft: Draft, cidr: Cidr, address: IpAddress): void {
  const block = getBlock(draft, cidr);
  const holder = block && holderOf(block, address);
  if (block !== undefined && holder !== undefined) release(draft, block, { address, holder });
}

function poolForSubnet(draft: Draft, request: PoolRequest & { readonly subnet: Cidr }): string {
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
  const isMade = covering?.metadata.annotations?.[madeForSubnet] !== undefined;
  if (!isMade) refuseSpecialSubnet(subnet);
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
  const pool = request.stamp(subnetPool(subnet, { [madeForSubnet]: subnet }));
  draft.put('IPPool', pool.metadata.name, pool);
  return pool.metadata.name;
}

/** The pool that holds a subnet, or those that such a one was split into. */
function poolsForSubnet(pools: readonly IpPool[], subnet: Cidr): readonly IpPool[] {
  const covering = pools.find(({ spec }) => cidrCovers(spec.cidr, subnet));
  return covering === undefined ? partsOf(pools, subnet) : [covering];
}

/** Throws why a subnet cannot be of a pool that is there. */
function checkForSubnet(draft: Draft, pool: IpPool, subnet: Cidr): void {
  const { metadata, spec } = pool;
  if (metadata.annotations?.[hostLocal] !== undefined) {
    throw new CalicoError('ipam/subnet-overlaps', { subnet, pool: metadata.name, cidr: spec.cidr });
  }
  refuseOtherUses(pool);
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

/**
 * Removes the pool of that name that was made for a subnet, or its parts; nothing happens to one that another
 * record of any host refers to than the one that goes.
 */
function dropUnusedPools(draft: Draft, name: string, without: string): Progress {
  for (const [id, record] of draft.entries('DockerPool')) {
    if (record.ipPool === name && id !== without) return 'done';
  }
  for (const pool of allPools(draft)) {
    const subnet = pool.metadata.annotations?.[madeForSubnet];
    // Parts of a pool have its annotations.
    const madeAs = subnet === undefined ? undefined : subnetPoolName(subnet);
    if (madeAs === name && removePool(draft, pool) === 'more') return 'more';
  }
  return 'done';
}
