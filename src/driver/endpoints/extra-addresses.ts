import type { Draft } from '../../datastore/writer.ts';
import { CalicoError, describe } from '../../errors/error.ts';
import { familyOf, parseAddress, type IpAddress } from '../../ip/address.ts';
import { hostCidr } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import {
  dockerAddresses,
  extraAddresses,
  withAnnotation,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { AddressPlans } from '../networks/address-plans.ts';

/**
 * Addresses of an endpoint in addition to those that Docker requested, such as the virtual address of keepalived.
 * Docker has no field for them, so they are selected by a driver option of the connection or by a label of the
 * container. They are stored in `spec.ipNetworks` after Docker's own, so everything that handles an endpoint's
 * addresses (routes, policy, sets, NAT, IPAM checks) includes them.
 */

const key = 'org.projectcalico.addresses';

/** Returns the addresses selected by the connection; throws `driver/bad-endpoint-option`. */
export function addressesFromOptions(
  options: Readonly<Record<string, unknown>>,
): readonly IpAddress[] {
  const given = Object.entries(options).find(([name]) => isAddressesKey(name));
  if (given === undefined) return [];
  const [name, value] = [given[0], String(given[1])];
  return parse(value, (error) => {
    const details = { key: name, value, why: describe(error) };
    return new CalicoError('driver/bad-endpoint-option', details, { cause: error });
  });
}

/** Returns the addresses selected by the container; throws `driver/bad-container-label`. */
export function addressesFromLabels(
  labels: Readonly<Record<string, string>>,
): readonly IpAddress[] {
  const value = labels[key];
  if (value === undefined) return [];
  return parse(value, (error) => {
    const details = { key, value, why: describe(error) };
    return new CalicoError('driver/bad-container-label', details, { cause: error });
  });
}

/** Reports whether an option of a connection belongs to calico-cnm. */
export function isAddressesKey(name: string): boolean {
  return name === key || `org.projectcalico.${name}` === key;
}

/**
 * Gives an endpoint the addresses in a draft, and returns the endpoint with them. Docker's addresses are skipped, and
 * present ones stay. Throws the errors of `claimExtra`, and `driver/no-address-of-family`.
 */
export function withExtraAddresses(
  draft: Draft,
  endpoint: WorkloadEndpoint,
  claim: {
    readonly network: DockerNetwork;
    readonly addresses: readonly IpAddress[];
    readonly plans: Pick<AddressPlans, 'claimExtra'>;
  },
): WorkloadEndpoint {
  const own = dockerAddresses(endpoint);
  const before = extraAddresses(endpoint);
  const added = claim.addresses.filter((one) => !own.includes(one) && !before.includes(one));
  if (added.length === 0) return endpoint;
  for (const address of added) {
    const family = familyOf(address);
    if (!own.some((one) => familyOf(one) === family)) {
      throw new CalicoError('driver/no-address-of-family', { address, family });
    }
  }
  const { node, endpoint: endpointId } = endpoint.spec;
  const { network } = claim;
  claim.plans.claimExtra(draft, { node, network, endpointId, addresses: added });
  const extra = [...before, ...added];
  const ipNetworks = [...own, ...extra].map(hostCidr);
  return withAnnotation(
    { ...endpoint, spec: { ...endpoint.spec, ipNetworks } },
    'extraAddresses',
    extra.join(','),
  );
}

function parse(value: string, refusal: (error: unknown) => CalicoError): readonly IpAddress[] {
  try {
    return parseList(value);
  } catch (error) {
    throw refusal(error);
  }
}

/** Addresses separated by commas or spaces: docker's `--network` takes a comma as the end of the option. */
function parseList(value: string): readonly IpAddress[] {
  const addresses = value
    .split(/[\s,;]+/)
    .filter((one) => one !== '')
    .map(parseAddress);
  if (addresses.length === 0) throw new Error('must list at least one IP address');
  return [...new Set(addresses)];
}
