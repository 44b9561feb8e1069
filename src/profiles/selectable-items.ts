import { tryParseAddress, type IpAddress } from '../ip/address.ts';
import { hostCidr } from '../ip/cidr.ts';
import type { BriefEndpoint, NamedPort } from '../model/briefs.ts';
import type { HostEndpoint } from '../model/kinds/host-endpoint.ts';
import { networkSetMember, type NetworkSet } from '../model/kinds/network-set.ts';
import type { SelectorMember } from './select/selector-sets.ts';

/** What selectors match, of stored resources. */

export interface HostItem extends SelectorMember {
  readonly ports: readonly NamedPort[];
}

/** Returns what policy goes by of a host endpoint. */
export function hostItem({ metadata, spec }: HostEndpoint): HostItem {
  const { expectedIPs = [], profiles = [], ports = [] } = spec;
  const addresses = expectedIPs.flatMap((text) => tryParseAddress(text) ?? []);
  return {
    labels: metadata.labels ?? {},
    profiles,
    nets: [...new Set(addresses.map(hostCidr))],
    ports,
  };
}

/** Returns the member of selector sets: an endpoint with the prefixes behind it, so a tag means both. */
export function memberOf(endpoint: BriefEndpoint): SelectorMember {
  const { nets, prefixes } = endpoint;
  return prefixes.length === 0
    ? endpoint
    : { ...endpoint, nets: [...new Set([...nets, ...prefixes])] };
}

/** A network set with domain names, and their addresses. */
export interface SetDomains {
  readonly set: NetworkSet;
  readonly addresses: readonly IpAddress[];
}

/** Returns the key of the domain names of a network set, given by kind and id. */
export function domainsKey(id: string): string {
  return `domains of ${id}`;
}

/** Returns the member of selector sets for the domain names of a network set: it has the labels of the set. */
export function domainsMember({ set, addresses }: SetDomains): SelectorMember {
  return { ...networkSetMember(set), nets: addresses.map(hostCidr), isOfDomains: true };
}
