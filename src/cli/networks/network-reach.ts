import type { View } from '../../cache/view.ts';
import { cidrFamily, cidrsOverlap } from '../../ip/cidr.ts';
import { nodeIps } from '../../host/node-liveness.ts';
import { parsePeerAddress } from '../../model/bgp.ts';
import { isBgpEnabled } from '../../model/kinds/bgp-configuration.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import { poolFamily, poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import { peerOf, reachOf } from '../../routing/peers.ts';
import { encapsulationOf } from '../../routing/tunnels.ts';

/**
 * Returns a sentence for each IP pool of a network through which this host does not reach another node because of the
 * pool's encapsulation, with the mode that would work. A tunnel that is not complete yet is no reason, nor are routers in
 * between to which BGP announces the pool.
 */
export function unreachableNodes(
  view: View,
  definition: NetworkDefinition,
  node: string,
): readonly string[] {
  const nodes = [...view.list('Node').values()].map(({ value }) => peerOf(value));
  const own = nodes.find(({ name }) => name === node);
  if (own === undefined) return [];
  const isPeered = hasRouters(view);
  return poolsOf(view, definition).flatMap((pool) => {
    if (encapsulationOf(pool).mode !== 'Never') return [];
    const family = poolFamily(pool);
    for (const peer of nodes) {
      if (peer === own || peer.underlay[family] === undefined) continue;
      const reach = reachOf(pool, own, peer);
      if (reach.by === 'none' && !(isPeered && reach.isRoutable === true)) {
        return [`${reach.why}. ${reach.remedy}`];
      }
    }
    return [];
  });
}

/** Whether BGP is on, with routers that are no nodes. */
function hasRouters(view: View): boolean {
  if (!isBgpEnabled(view.get('BGPConfiguration', 'default')?.value)) return false;
  const nodes = new Set([...view.list('Node').values()].flatMap(({ value }) => nodeIps(value)));
  return [...view.list('BGPPeer').values()].some(({ value: { spec } }) => {
    const address = parsePeerAddress(spec.peerIP ?? '')?.address;
    return address !== undefined && !nodes.has(address);
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
