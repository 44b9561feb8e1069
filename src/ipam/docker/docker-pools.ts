import { expectUser } from '../../datastore/expect-user.ts';
import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import { cidrContains, cidrSize, cidrsOverlap } from '../../ip/cidr.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import { poolFamily, poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import {
  allPools,
  candidatePools,
  createdForSubnet,
  rejectOtherUses,
  reservedRanges,
} from '../pools/pools.ts';
import { countReserved } from '../pools/reserved.ts';
import { allocatedAddresses } from '../records/block.ts';
import { blockKind } from '../records/records.ts';
import type { AddressState } from '../pools/address-state.ts';
import { removePool } from '../pools/remove-pool.ts';
import {
  poolForSubnet,
  poolsForSubnet,
  subnetPoolName,
  type SubnetRequest,
} from '../pools/subnet-pools.ts';
import { chooseNextHop } from './next-hop.ts';
import { formatPoolId, isOwnPoolId, parsePoolId, type PoolFacts } from './pool-id.ts';

/**
 * The pools that Docker requests from this IPAM driver. Each request has its own record on its host; an IP pool
 * created for a subnet stays as long as a record of any host refers to it.
 */

export interface PoolRequest extends PoolFacts, Pick<SubnetRequest, 'used' | 'stamp'> {
  readonly node: string;
  readonly now: Date;
}

/** Returns the datastore id of a pool record. */
export function poolRecordId(node: string, nonce: string): string {
  return `${node}/${nonce}`;
}

/** Creates the record of a request, and an IP pool for a new subnet; throws `ipam/…`. */
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

/** Returns the record of a PoolID, recreated if it was lost; throws `ipam/unknown-pool-id`. */
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

/** Returns the PoolIDs of a host's networks. */
export function poolIdsOfNetworks(draft: Draft, node: string): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const [, network] of draft.group('DockerNetwork', node)) {
    for (const { poolId } of network.subnets) if (poolId !== undefined) ids.add(poolId);
  }
  return ids;
}

/**
 * Deletes a record, and with the last one the IP pool created for its subnet; does nothing for an unknown PoolID.
 * Returns progress as `removePool` does.
 */
export function releasePool(draft: Draft, poolId: string, node: string): Progress {
  if (!isOwnPoolId(poolId)) return 'done';
  const id = poolRecordId(node, parsePoolId(poolId).nonce);
  const record = draft.get('DockerPool', id);
  if (record === undefined) return 'done';
  if (record.ipPool !== undefined && dropUnusedPools(draft, id, record) === 'more') return 'more';
  draft.remove('DockerPool', id);
  return 'done';
}

/** Returns the pools that addresses of a record may come from; for a split pool its parts. */
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

/** Throws `ipam/address-outside` or `ipam/pool-not-for-workloads` for an address that a record cannot allocate. */
export function checkInside(
  draft: Draft,
  record: DockerPool,
  { address, pool }: Pick<AddressState, 'address' | 'pool'>,
): void {
  if (isInside(draft, record, address)) {
    if (pool !== undefined) rejectOtherUses(pool);
    return;
  }
  const { subnet } = record;
  const where = subnet === undefined ? describeSource(draft, record).where : `subnet ${subnet}`;
  throw new CalicoError('ipam/address-outside', { address, where });
}

export function isInside(draft: Draft, record: DockerPool, address: IpAddress): boolean {
  if (record.subnet !== undefined) return cidrContains(record.subnet, address);
  return poolsOfRecord(draft, record).some(({ spec }) => cidrContains(spec.cidr, address));
}

/** Describes a pool record for messages: source of its addresses, their number, and the number of reserved ones. */
export function describeSource(
  draft: Draft,
  record: DockerPool,
): { readonly where: string; readonly size: string; readonly reserved: string } {
  const range = record.range ?? record.subnet;
  const pools = poolsOfRecord(draft, record);
  const cidrs = range === undefined ? pools.map(({ spec }) => spec.cidr) : [range];
  const size = cidrs.reduce((sum, cidr) => sum + cidrSize(cidr), 0n).toString();
  const ranges = reservedRanges(draft);
  const reserved = cidrs
    .reduce((sum, cidr) => sum + countReserved(cidr, ranges, []).reserved, 0n)
    .toString();
  if (range !== undefined) {
    const isPart = record.range !== undefined && record.range !== record.subnet;
    const where = `${isPart ? '--ip-range' : 'subnet'} ${range}`;
    return { where: isPart ? `${where} of subnet ${record.subnet ?? ''}` : where, size, reserved };
  }
  const names = pools.map(({ metadata, spec }) => `${metadata.name} (${spec.cidr})`);
  return { where: `IP pool ${names.join(', ')}`, size, reserved };
}

/**
 * Deletes the pools created for subnets that no record but the one to be deleted uses. A pool stays with addresses of
 * other records in it, whose own pool another tool has deleted or resized.
 */
function dropUnusedPools(draft: Draft, id: string, record: DockerPool): Progress {
  const others = [...draft.entries('DockerPool')].filter(([other]) => other !== id);
  for (const pool of allPools(draft)) {
    const subnet = pool.metadata.annotations?.[createdForSubnet];
    if (subnet === undefined) continue;
    // The parts of a split pool have its annotations.
    const name = subnetPoolName(subnet);
    if (record.ipPool !== name && !overlaps(record, pool)) continue;
    const uses = (other: DockerPool) =>
      other.ipPool === name || (overlaps(other, pool) && isPoolLost(draft, other));
    const using = others.filter(([, other]) => uses(other)).map(([other]) => other);
    const users = using.length > 0 ? using : usersByAddress(draft, pool, others);
    if (users.length > 0) {
      expectUser(draft, 'DockerPool', { own: id, users });
      continue;
    }
    if (removePool(draft, pool) === 'more') return 'more';
  }
  return 'done';
}

function overlaps({ subnet }: DockerPool, pool: IpPool): boolean {
  return subnet !== undefined && cidrsOverlap(subnet, pool.spec.cidr);
}

/** Reports whether the IP pool of a record no longer exists: the record uses any pool that contains its subnet. */
function isPoolLost(draft: Draft, { ipPool }: DockerPool): boolean {
  return ipPool === undefined || draft.get('IPPool', ipPool) === undefined;
}

/** Returns a record for which an address of the pool was allocated, if there is one. */
function usersByAddress(
  draft: Draft,
  pool: IpPool,
  records: readonly (readonly [id: string, record: DockerPool])[],
): readonly string[] {
  const kind = blockKind(poolFamily(pool));
  const ids = new Set(records.map(([id]) => id));
  for (const [id, { cidr, held }] of draft.briefs(kind)) {
    const block = held !== 0n && cidrsOverlap(cidr, pool.spec.cidr) && draft.get(kind, id);
    if (!block) continue;
    for (const [address, { secondary = {} }] of allocatedAddresses(block)) {
      const user = poolRecordId(secondary['node'] ?? '', secondary['pool'] ?? '');
      if (ids.has(user) && cidrContains(pool.spec.cidr, address)) return [user];
    }
  }
  return [];
}
