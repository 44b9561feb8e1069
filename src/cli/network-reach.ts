import type { View } from '../cache/view.ts';
import { cidrFamily, cidrsOverlap } from '../ip/cidr.ts';
import type { NetworkDefinition } from '../model/kinds/network-definition.ts';
import { poolFamily, poolIsEnabled, type IpPool } from '../model/kinds/ip-pool.ts';
import { encapsulationOf, peerOf, reachOf } from '../routing/peers.ts';

/**
 * Returns a sentence for each IP pool of a network through which this host does not reach another node because of the
 * pool's encapsulation, with the mode that would work. A tunnel that is not complete yet is no reason.
 */
export function unreachableNodes(
  view: View,
  definition: NetworkDefinition,
  node: string,
): readonly string[] {
  const nodes = [...view.list('Node').values()].map(({ value }) => peerOf(value));
  const own = nodes.find(({ name }) => name === node);
  if (own === undefined) return [];
  return poolsOf(view, definition).flatMap((pool) => {
    const { isIpip, mode } = encapsulationOf(pool);
    if (!isIpip && mode !== 'Never') return [];
    const family = poolFamily(pool);
    for (const peer of nodes) {
      if (peer === own || peer.underlay[family] === undefined) continue;
      const reach = reachOf(pool, own, peer);
      if (reach.by === 'none') return [`${reach.why}. ${reach.remedy}`];
    }
    return [];
  });
}

/** Returns the existing pools that a network's addresses may come from. */
function poolsOf(view: View, { subnets, ipPools, ipv6 }: NetworkDefinition): readonly IpPool[] {
  const pools = [...view.list('IPPool').values()].map(({ value }) => value);
  return pools.filter((pool) => {
    const family = poolFamily(pool);
    const own = subnets.filter(({ cidr }) => cidrFamily(cidr) === family);
    if (own.length > 0) return own.some(({ cidr }) => cidrsOverlap(cidr, pool.spec.cidr));
    if (ipPools !== undefined) return ipPools.includes(pool.metadata.name);
    return poolIsEnabled(pool) && (family === 4 || ipv6);
  });
}
