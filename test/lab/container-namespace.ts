import { execFileSync } from 'node:child_process';

/**
 * Does for a container of `KernelAgent.join` what Docker does: moves the peer `p<name>` of its interface into a new
 * network namespace, with addresses, next hops and routes, and permanent neighbour entries on both sides.
 */
export function makeContainerNamespace(container: {
  readonly name: string;
  /** The namespace to create. */
  readonly netns: string;
  readonly interfaceName: string;
  readonly address4: string;
  readonly address6: string;
}): void {
  const { name, netns, interfaceName, address4, address6 } = container;
  const gateway = 'ee:ee:ee:ee:ee:ee';
  const nextHop6 = 'fe80::ecee:eeff:feee:eeee';
  const script = `ip netns add ${netns}
    ip link set p${name} netns ${netns}
    in="ip -n ${netns}"
    $in link set lo up
    $in link set p${name} name eth0 up
    $in address add ${address4}/32 dev eth0
    $in -6 address add ${address6}/128 dev eth0 nodad
    $in neigh replace 169.254.1.1 lladdr ${gateway} dev eth0 nud permanent
    $in neigh replace ${nextHop6} lladdr ${gateway} dev eth0 nud permanent
    $in route add 169.254.1.1 dev eth0
    $in route add default via 169.254.1.1
    $in -6 route add default via ${nextHop6} dev eth0
    mac=$($in -br link show eth0 | awk '{print $3}')
    ip neigh replace ${address4} lladdr $mac dev ${interfaceName} nud permanent
    ip neigh replace ${address6} lladdr $mac dev ${interfaceName} nud permanent`;
  execFileSync('sh', ['-ec', script]);
}
