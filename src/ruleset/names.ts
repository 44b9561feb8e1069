import type { IpFamily } from '../ip/address.ts';

/**
 * Names that every renderer uses: of sets of addresses, which begin with `cali40` or `cali60` as Calico's do, so that
 * one prefix identifies ours; and of interfaces.
 */

/** Maximum length of the name of an ipset. Source: Linux, `IPSET_MAXNAMELEN` without its end. */
const longestSetName = 31;

/** Prefix of all host interfaces. */
export const workloadInterfacePrefix = 'cali';

/** Reports whether an interface is a host interface. */
export function isWorkloadInterface(name: string): boolean {
  return name.startsWith(workloadInterfacePrefix);
}

/** Set of the addresses that a selector matches, named as in Calico. */
export function selectorSet(family: IpFamily, selectorId: string): string {
  return `${addressSetPrefix(family)}${selectorId}`.slice(0, longestSetName);
}

/** Set of the addresses and ports that have a name. */
export function namedPortSet(family: IpFamily, id: string): string {
  return `${addressSetPrefix(family)}${id}`.slice(0, longestSetName);
}

export const natSets = {
  masqueradedPools: (family: IpFamily) => `${addressSetPrefix(family)}masq-ipam-pools`,
  allPools: (family: IpFamily) => `${addressSetPrefix(family)}all-ipam-pools`,
  masqueradedEndpoints: (family: IpFamily) => `${addressSetPrefix(family)}masq-endpoints`,
  plainEndpoints: (family: IpFamily) => `${addressSetPrefix(family)}no-masq-endpoints`,
} as const;

/** Set of the BGP peers of this host: nobody else may connect to its BGP port. */
export function bgpPeersSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}bgp-peers`;
}

/**
 * Set of the hosts whose tunnel packets are accepted, named as in Calico: nodes with a VXLAN tunnel address; for
 * IP-in-IP, all nodes.
 */
export function tunnelNodesSet(family: IpFamily, encapsulation: 'vxlan' | 'ipip'): string {
  return `${addressSetPrefix(family)}${encapsulation === 'vxlan' ? 'all-vxlan-net' : 'all-hosts-net'}`;
}

/** Returns the prefix of the names of all sets of a family. */
export function addressSetPrefix(family: IpFamily): string {
  return `cali${family}0`;
}
