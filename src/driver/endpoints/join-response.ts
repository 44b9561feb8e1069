import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrContains, cidrFamily, cidrSize, halves, hostCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { JoinResponse, StaticRoute } from '../plugin/messages.ts';

const onLink = 1;
const byNextHop = 0;

/**
 * What Docker is to do with the container's end of the veth: routes by the network's next hop, which the host
 * answers for on every veth, and no bridge of Docker's own beside it.
 *
 * The next hop must differ between the networks of a container, as the same on-link route twice is refused.
 * An internal network has no default route; what its containers may reach is routed once they run.
 */
export function joinResponse(options: {
  readonly network: DockerNetwork;
  readonly addresses: readonly IpAddress[];
  /** The container's end of the veth, as the host sees it before Docker moves it. */
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
 * Where Docker hands out the addresses, the interface gets the whole subnet's prefix, and peers would be
 * looked for on the link, where nobody answers. The two halves of the subnet by the next hop are more
 * specific than that route and win.
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
