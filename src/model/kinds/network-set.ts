import { z } from 'zod';
import { tryParseAddress } from '../../ip/address.ts';
import { cidrOf, hostCidr, parseInterfaceAddress, type Cidr } from '../../ip/cidr.ts';
import { resource, type labels } from '../fields.ts';

/**
 * Networks with labels, which selectors of rules match as they match endpoints. A NetworkSet is of a namespace, which
 * is a label of it; a GlobalNetworkSet of none. Networks are read as Calico reads them: a single address is its own
 * network, bits of the host are cleared, and what is none of this is left out.
 */
const spec = z.looseObject({ nets: z.exactOptional(z.array(z.string())) });

export const globalNetworkSet = resource('GlobalNetworkSet', spec);
export const networkSet = resource('NetworkSet', spec);

export type NetworkSet = z.infer<typeof networkSet> | z.infer<typeof globalNetworkSet>;

const namespaceLabel = 'projectcalico.org/namespace';

/** What a network set is for selectors: its networks, its labels, and the Profile that it inherits more from. */
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

/** What a set lists that is no network. */
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
