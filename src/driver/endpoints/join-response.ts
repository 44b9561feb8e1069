import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrContains, cidrFamily, cidrSize, halves, hostCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { JoinResponse, StaticRoute } from '../plugin/messages.ts';

const onLink = 1;
const byNextHop = 0;

/**
 * Instructions to Docker for the container's end of the veth: routes by the network's next hop, for which the host
 * answers on every veth, and no additional Docker bridge.
 *
 * The next hop must differ between the networks of a container, because the kernel rejects a duplicate on-link route.
 * An internal network has no default route; the routes to its peers are set once the container runs.
 */
export function joinResponse(options: {
  readonly network: DockerNetwork;
  readonly addresses: readonly IpAddress[];
  /** The container's end of the veth, by its name on the host before Docker moves it. */
  readonly interfaceName: string;
  readonly interfacePrefix: string;
}): JoinResponse {
  const { network, addresses } = options;
  const hops = [
    { family: 4, hop: network.nextHop4 },
    { family: 6, hop: network.nextHop6 },
  ] as const;
  const used = hops.flatMap(({ family, hop }) => {
    const own = addresses.filter((address) => cidrFamily(hostCidr(address)) === family);
    return hop === undefined || own.length === 0 ? [] : [{ family, hop, own }];
  });
  const gateway = (family: IpFamily) =>
    network.internal ? undefined : used.find((entry) => entry.family === family)?.hop;
  const [gateway4, gateway6] = [gateway(4), gateway(6)];
  return {
    InterfaceName: { SrcName: options.interfaceName, DstPrefix: options.interfacePrefix },
    ...(gateway4 === undefined ? {} : { Gateway: gateway4 }),
    ...(gateway6 === undefined ? {} : { GatewayIPv6: gateway6 }),
    StaticRoutes: used.flatMap(({ hop, own }) => [
      { Destination: hostCidr(hop), RouteType: onLink, NextHop: '' } as const,
      ...peerRoutes(network, own, hop),
    ]),
    DisableGatewayService: true,
  };
}

/**
 * If Docker allocates the addresses, the interface gets the prefix of the whole subnet, so peers would be expected on
 * the link, where nobody answers. The two halves of the subnet by the next hop are more specific than that route and
 * win.
 */
function peerRoutes(
  network: DockerNetwork,
  addresses: readonly IpAddress[],
  nextHop: IpAddress,
): readonly StaticRoute[] {
  if (network.ipam !== 'docker') return [];
  return network.subnets
    .map(({ cidr }) => cidr)
    .filter((cidr) => addresses.some((address) => cidrContains(cidr, address)))
    .flatMap((cidr: Cidr) => (cidrSize(cidr) > 1n ? halves(cidr) : []))
    .map((half) => ({ Destination: half, RouteType: byNextHop, NextHop: nextHop }));
}
