import type { Mirror } from '../../cache/mirror.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError, describe } from '../../errors/error.ts';
import { familyOf, parseAddress, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { cidrFamily, hostCidr, parseCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import {
  dockerAddresses,
  endpointPrefixes,
  endpointTitle,
  extraAddresses,
  withAnnotation,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { AddressPlans } from '../networks/address-plans.ts';
import type { LocalEndpoints } from './local-endpoints.ts';

/**
 * Addresses of an endpoint in addition to those that Docker requested, such as the virtual address of keepalived, and
 * prefixes behind it, such as the remote networks of a VPN. Docker has no field for them, so they are selected by driver
 * options of the connection or by labels of the container. Addresses are stored in `spec.ipNetworks` after Docker's own,
 * prefixes in `spec.allowSpoofedSourcePrefixes`. Everything that handles an endpoint's addresses (routes, policy, sets,
 * IPAM checks) includes them.
 */
export interface Extras {
  readonly addresses: readonly IpAddress[];
  readonly prefixes: readonly Cidr[];
}

const keys = {
  addresses: 'org.projectcalico.addresses',
  prefixes: 'org.projectcalico.prefixes',
} as const;

/** The keys of driver options and labels, for messages and the documentation. */
export const extrasKeys: readonly string[] = Object.values(keys);

/** Returns the extras selected by the connection; throws `driver/bad-endpoint-option`. */
export function extrasFromOptions(options: Readonly<Record<string, unknown>>): Extras {
  const own = Object.entries(options).flatMap(([key, value]) =>
    isExtrasKey(key) ? [[canonical(key), String(value)] as const] : [],
  );
  return read(Object.fromEntries(own), 'driver/bad-endpoint-option');
}

/** Returns the extras selected by the container; throws `driver/bad-container-label`. */
export function extrasFromLabels(labels: Readonly<Record<string, string>>): Extras {
  return read(labels, 'driver/bad-container-label');
}

/** Reports whether an option of a connection, with or without the prefix `org.projectcalico.`, selects extras. */
export function isExtrasKey(key: string): boolean {
  return extrasKeys.includes(canonical(key));
}

/**
 * Adds addresses and prefixes to an endpoint in a draft, and returns the endpoint with them. Docker's addresses are
 * skipped, and present ones stay. Throws the errors of `claimExtra` and `claimPrefixes`, and
 * `driver/no-address-of-family`.
 */
export function withExtras(
  draft: Draft,
  endpoint: WorkloadEndpoint,
  claim: {
    readonly network: DockerNetwork;
    readonly extras: Extras;
    readonly plans: Pick<AddressPlans, 'claimExtra' | 'claimPrefixes'>;
  },
): WorkloadEndpoint {
  const own = dockerAddresses(endpoint);
  const [hadAddresses, hadPrefixes] = [extraAddresses(endpoint), endpointPrefixes(endpoint)];
  const addresses = claim.extras.addresses.filter(
    (one) => ![...own, ...hadAddresses].includes(one),
  );
  const prefixes = claim.extras.prefixes.filter((one) => !hadPrefixes.includes(one));
  if (addresses.length + prefixes.length === 0) return endpoint;
  const requireFamily = (what: string, family: IpFamily) => {
    if (own.some((one) => familyOf(one) === family)) return;
    throw new CalicoError('driver/no-address-of-family', { what, family });
  };
  for (const address of addresses) requireFamily(`address ${address}`, familyOf(address));
  for (const prefix of prefixes) requireFamily(`prefix ${prefix}`, cidrFamily(prefix));
  const { node, endpoint: endpointId } = endpoint.spec;
  const { network, plans } = claim;
  if (addresses.length > 0) plans.claimExtra(draft, { node, network, endpointId, addresses });
  if (prefixes.length > 0) plans.claimPrefixes(draft, { node, network, endpointId, prefixes });
  const allAddresses = [...hadAddresses, ...addresses];
  const allPrefixes = [...hadPrefixes, ...prefixes];
  const spec = {
    ...endpoint.spec,
    ipNetworks: [...own, ...allAddresses].map(hostCidr),
    ...(allPrefixes.length === 0 ? {} : { allowSpoofedSourcePrefixes: allPrefixes }),
  };
  return withAnnotation(
    { ...endpoint, spec },
    'extraAddresses',
    allAddresses.length === 0 ? undefined : allAddresses.join(','),
  );
}

/** Returns the prefixes behind the endpoints of this host: no network and no IP pool may overlap them. */
export function prefixRanges(
  mirror: Mirror,
  local: LocalEndpoints,
): readonly { readonly cidr: Cidr; readonly what: string }[] {
  return local.all().flatMap((id) => {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    if (endpoint === undefined) return [];
    const what = `the prefix behind container ${endpointTitle(endpoint)}`;
    return endpointPrefixes(endpoint).map((cidr) => ({ cidr, what }));
  });
}

function canonical(key: string): string {
  return key.startsWith('org.projectcalico.') ? key : `org.projectcalico.${key}`;
}

function read(
  given: Readonly<Record<string, string>>,
  code: 'driver/bad-endpoint-option' | 'driver/bad-container-label',
): Extras {
  const list = <Item>(key: string, parse: (text: string) => Item): readonly Item[] => {
    const value = given[key];
    if (value === undefined) return [];
    try {
      return parseList(value, parse);
    } catch (error) {
      throw new CalicoError(code, { key, value, why: describe(error) }, { cause: error });
    }
  };
  return {
    addresses: list(keys.addresses, parseAddress),
    prefixes: list(keys.prefixes, parseCidr),
  };
}

/** Items separated by commas or spaces: docker's `--network` takes a comma as the end of the option. */
function parseList<Item>(value: string, parse: (text: string) => Item): readonly Item[] {
  const items = value
    .split(/[\s,;]+/)
    .filter((one) => one !== '')
    .map(parse);
  if (items.length === 0) throw new Error('must not be empty');
  return [...new Set(items)];
}
