import { z } from 'zod';
import { tryParseAddress } from '../../ip/address.ts';
import { cidrOf, hostCidr, parseInterfaceAddress, type Cidr } from '../../ip/cidr.ts';
import { domainProblem } from '../domain-pattern.ts';
import { resource, type labels } from '../fields.ts';
import {
  nameColumn,
  namespaceColumn,
  resourceType,
  type Column,
  type Problem,
  type ResourceType,
} from '../resource-type.ts';

const spec = z.looseObject({
  nets: z.exactOptional(z.array(z.string())),
  allowedEgressDomains: z.exactOptional(z.array(z.string())),
});

const globalNetworkSet = resource('GlobalNetworkSet', spec);
const namespacedNetworkSet = resource('NetworkSet', spec);

type NamespacedNetworkSet = z.infer<typeof namespacedNetworkSet>;
type GlobalNetworkSet = z.infer<typeof globalNetworkSet>;

/**
 * A set of networks and domain names with labels, which selectors of rules match like those of endpoints. The addresses
 * of a domain name become members when a container resolves it. A NetworkSet belongs to a namespace, which is one of its
 * labels; a GlobalNetworkSet does not. Networks are read as Calico reads them: a single address is its own network, host
 * bits are cleared, and anything else is ignored.
 */
export type NetworkSet = NamespacedNetworkSet | GlobalNetworkSet;

const netsColumn: Column<NetworkSet> = {
  header: 'nets',
  cell: ({ spec: { nets = [] } }) => nets.join(','),
};

const domainsColumn: Column<NetworkSet> = {
  header: 'domains',
  cell: ({ spec: { allowedEgressDomains = [] } }) => allowedEgressDomains.join(','),
  isWide: true,
};

export const networkSetType: ResourceType<NamespacedNetworkSet> = resourceType({
  kind: 'NetworkSet',
  plural: 'networksets',
  aliases: ['netset'],
  meaning: 'labelled set of networks, in a namespace',
  isNamespaced: true,
  schema: namespacedNetworkSet,
  columns: [namespaceColumn, nameColumn, netsColumn, domainsColumn],
  validate: setProblem,
});

export const globalNetworkSetType: ResourceType<GlobalNetworkSet> = resourceType({
  kind: 'GlobalNetworkSet',
  plural: 'globalnetworksets',
  meaning: 'labelled set of networks',
  schema: globalNetworkSet,
  columns: [nameColumn, netsColumn, domainsColumn],
  validate: setProblem,
});

export const namespaceLabel = 'projectcalico.org/namespace';

/**
 * Returns the input of a network set for selectors: its networks, its labels, and the Profile from which it inherits
 * labels.
 */
export interface NetworkSetMember {
  readonly nets: readonly Cidr[];
  readonly labels: z.infer<typeof labels>;
  readonly profiles: readonly string[];
}

export function networkSetMember({ metadata, spec: { nets = [] } }: NetworkSet): NetworkSetMember {
  const { namespace } = metadata;
  return {
    nets: [...new Set(nets.flatMap((text) => networkOf(text) ?? []))],
    labels: {
      ...metadata.labels,
      ...(namespace === undefined ? {} : { [namespaceLabel]: namespace }),
    },
    profiles: namespace === undefined ? [] : [`kns.${namespace}`],
  };
}

function setProblem(set: NetworkSet): Problem | undefined {
  const [bad] = badNetworks(set);
  if (bad !== undefined)
    return { field: 'spec.nets', why: `"${bad}" is neither a network nor an address` };
  for (const [index, domain] of (set.spec.allowedEgressDomains ?? []).entries()) {
    const why = domainProblem(domain);
    if (why !== undefined) return { field: `spec.allowedEgressDomains.${index}`, why };
  }
  if (set.metadata.labels?.[namespaceLabel] === undefined) return undefined;
  return { field: 'metadata.labels', why: `${namespaceLabel} is set by the namespace` };
}

/** Returns the entries of a set that are not networks. */
export function badNetworks({ spec: { nets = [] } }: NetworkSet): readonly string[] {
  return nets.filter((text) => networkOf(text) === undefined);
}

function networkOf(text: string): Cidr | undefined {
  const single = tryParseAddress(text);
  if (single !== undefined) return hostCidr(single);
  try {
    const { address, prefixLength } = parseInterfaceAddress(text);
    return cidrOf(address, prefixLength);
  } catch {
    return undefined;
  }
}
