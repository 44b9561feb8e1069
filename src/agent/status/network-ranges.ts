import { isOwnPoolId, parsePoolId } from '../../ipam/docker/pool-id.ts';
import type { NetworkSubnet } from '../../model/kinds/docker-network.ts';

/**
 * Describes the source of the addresses of a network's subnet. Without `--subnet`, the subnet in Docker is `0.0.0.0/0`
 * or the first IPv6 pool; the requested source is in the PoolID.
 */
export function rangeText({ cidr, poolId }: NetworkSubnet): string {
  if (poolId === undefined || !isOwnPoolId(poolId)) return cidr;
  const { family, subnet, ipPools } = parsePoolId(poolId);
  if (subnet !== undefined) return cidr;
  if (ipPools !== undefined)
    return `${ipPools.length === 1 ? 'pool' : 'pools'} ${ipPools.join(',')}`;
  return family === 4 ? 'any pool' : 'any IPv6 pool';
}
