import type { IpAddress, IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';
import { listAddresses } from './netlink/address.ts';
import { listLinks, type Link } from './netlink/link.ts';
import { listRoutes, routeTables } from './netlink/route.ts';
import type { NetlinkSocket } from './netlink/socket.ts';

/** The addresses of the host, read at each call. All methods throw `kernel/refused`. */
export interface HostAddresses {
  /** Returns the addresses of its interfaces. */
  ofInterfaces(): ReadonlySet<IpAddress>;
  /** Returns all addresses that it answers for, including whole networks such as 127.0.0.0/8. */
  answeredFor(families: readonly IpFamily[]): readonly Cidr[];
  /** Returns the interface that has an address; `undefined` if none has. */
  linkOf(address: IpAddress): Link | undefined;
}

/** Returns the addresses of a socket's network namespace. */
export function hostAddressesOf(rtnetlink: NetlinkSocket): HostAddresses {
  return {
    ofInterfaces: () => new Set(listAddresses(rtnetlink).map(({ address }) => address)),
    answeredFor: (families) =>
      families
        .flatMap((family) => listRoutes(rtnetlink, { family }))
        .filter(({ type, table }) => type === 'local' && table === routeTables.local)
        .map(({ destination }) => destination),
    linkOf: (address) => {
      const found = listAddresses(rtnetlink).find((one) => one.address === address);
      return listLinks(rtnetlink).find(({ index }) => index === found?.linkIndex);
    },
  };
}
