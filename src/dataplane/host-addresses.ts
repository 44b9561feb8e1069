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
  /** Returns all interfaces, with their addresses. */
  byInterface(): readonly HostInterface[];
  /** Returns the interface that has an address; `undefined` if none has. */
  linkOf(address: IpAddress): Link | undefined;
}

/** An interface of the host. */
export interface HostInterface {
  readonly name: string;
  readonly addresses: readonly IpAddress[];
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
    byInterface: () => {
      const all = listAddresses(rtnetlink);
      return listLinks(rtnetlink).map(({ name, index }) => ({
        name,
        addresses: all.filter((one) => one.linkIndex === index).map(({ address }) => address),
      }));
    },
    linkOf: (address) => {
      const found = listAddresses(rtnetlink).find((one) => one.address === address);
      return listLinks(rtnetlink).find(({ index }) => index === found?.linkIndex);
    },
  };
}
