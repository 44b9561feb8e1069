import type { IpAddress, IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';
import { listAddresses } from './netlink/address.ts';
import { listRoutes, routeTables } from './netlink/route.ts';
import type { NetlinkSocket } from './netlink/socket.ts';

/** Which addresses the host has, as it is when it is asked. All of it throws `kernel/refused`. */
export interface HostAddresses {
  /** Those of its interfaces. */
  ofInterfaces(): ReadonlySet<IpAddress>;
  /** All that it answers for: a host has whole networks, such as 127.0.0.0/8, without having each on an interface. */
  answeredFor(families: readonly IpFamily[]): readonly Cidr[];
}

/** Those of a socket's network namespace. */
export function hostAddressesOf(rtnetlink: NetlinkSocket): HostAddresses {
  return {
    ofInterfaces: () => new Set(listAddresses(rtnetlink).map(({ address }) => address)),
    answeredFor: (families) =>
      families
        .flatMap((family) => listRoutes(rtnetlink, { family }))
        .filter(({ type, table }) => type === 'local' && table === routeTables.local)
        .map(({ destination }) => destination),
  };
}
