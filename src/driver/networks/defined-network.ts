import { isDeepStrictEqual } from 'node:util';
import { describe } from '../../errors/error.ts';
import { familyOf, isUnspecified, tryParseAddress } from '../../ip/address.ts';
import { cidrContains, cidrFamily, type Cidr } from '../../ip/cidr.ts';
import type { DefinedSubnet, NetworkDefinition } from '../../model/kinds/network-definition.ts';
import { namesInList } from '../../model/names-in-list.ts';
import type { NewNetwork } from '../docker/docker-api.ts';
import type { NetworkDetails } from '../docker/messages.ts';
import { parseNetworkOptions } from './network-options.ts';

/** Pure: a network definition, and what Docker of this host has of it. */

/** The names by which this host's Docker knows calico-cnm: with a managed plugin they differ from host to host. */
export interface DriverNames {
  /** For new networks. */
  readonly network: string;
  readonly ipam: string;
  /** All names under which it serves networks. */
  readonly all: ReadonlySet<string>;
}

/** The Docker label of a network that calico-cnm has created from a definition: its uid. */
export const definitionLabel = 'org.projectcalico.network-definition';

/** What is to be done on this host about one definition. */
export type NetworkStep =
  | { readonly do: 'create' }
  | { readonly do: 'remove'; readonly id: string }
  /** Docker has the network as defined; or, if the definition is to be removed, none. */
  | { readonly do: 'nothing' }
  /** Another network has the name. It is never replaced. */
  | { readonly do: 'differs'; readonly how: string };

/**
 * Decides by the networks of Docker that have the definition's name. Only networks with the label of this definition
 * are removed while it exists; when it is removed, also those that equal it (made by hand, and adopted).
 */
export function planNetwork(
  definition: NetworkDefinition,
  named: readonly NetworkDetails[],
  drivers: DriverNames,
): NetworkStep {
  const isOwn = ({ Labels }: NetworkDetails) => Labels[definitionLabel] === definition.uid;
  const how = (network: NetworkDetails) => differenceOf(definition, network, drivers);
  const [oldest, ...others] = named.filter(isOwn).toSorted(byAge);
  const foreign = named.filter((network) => !isOwn(network));
  if (definition.isRemoving === true) {
    const equal = foreign.find((network) => how(network) === undefined);
    const removed = oldest ?? equal;
    return removed === undefined ? { do: 'nothing' } : { do: 'remove', id: removed.Id };
  }
  const [first, second] = foreign;
  // Docker up to 24 creates several networks of one name if they are requested at the same time.
  const duplicate = first === undefined ? others[0] : (others[0] ?? oldest);
  if (duplicate !== undefined) return { do: 'remove', id: duplicate.Id };
  if (second !== undefined) {
    return { do: 'differs', how: `Docker has ${foreign.length} networks of this name` };
  }
  const present = oldest ?? first;
  if (present === undefined) return { do: 'create' };
  const difference = how(present);
  return difference === undefined ? { do: 'nothing' } : { do: 'differs', how: difference };
}

function byAge(a: NetworkDetails, b: NetworkDetails): number {
  return a.Created < b.Created || (a.Created === b.Created && a.Id < b.Id) ? -1 : 1;
}

/** Returns the request that creates the network of a definition. */
export function newNetwork(definition: NetworkDefinition, drivers: DriverNames): NewNetwork {
  const { name, uid, internal, ipv6, subnets, ipPools, options, labels } = definition;
  return {
    Name: name,
    Driver: drivers.network,
    Internal: internal,
    EnableIPv6: ipv6,
    IPAM: {
      Driver: drivers.ipam,
      Config: subnets.map(({ cidr, range, gateway, auxiliary }) => ({
        Subnet: cidr,
        ...(range === undefined ? {} : { IPRange: range }),
        ...(gateway === undefined ? {} : { Gateway: gateway }),
        ...(auxiliary === undefined ? {} : { AuxiliaryAddresses: { ...auxiliary } }),
      })),
      Options: ipPools === undefined ? {} : { pool: ipPools.join(',') },
    },
    Options: { ...options },
    Labels: { ...labels, [definitionLabel]: uid },
  };
}

/**
 * Returns how a network of Docker differs from a definition, as `--subnet is 10.1.0.0/16, defined: 10.2.0.0/16`;
 * `undefined` if it does not. Further labels of the network, such as Compose's, are no difference.
 */
export function differenceOf(
  definition: NetworkDefinition,
  network: NetworkDetails,
  drivers: DriverNames,
): string | undefined {
  const { internal, ipv6, ipPools = [], options, labels } = definition;
  const ipam = network.IPAM.Driver ?? 'default';
  const pools = namesInList(network.IPAM.Options['pool'] ?? '');
  const found = [
    drivers.all.has(network.Driver) ? undefined : `driver is ${network.Driver}`,
    drivers.all.has(ipam) ? undefined : `IPAM driver is ${ipam}`,
    compared('--internal', network.Internal, internal),
    compared('--ipv6', network.EnableIPv6, ipv6),
    ...subnetDifferences(definition, network),
    compared('--ipam-opt pool', list(pools), list(ipPools)),
    isDeepStrictEqual(parsedOptions(network.Options), parsedOptions(options))
      ? undefined
      : compared('options', pairs(network.Options), pairs(options)),
    ...Object.entries(labels).map(([key, value]) =>
      compared(`label ${key}`, network.Labels[key] ?? 'none', value),
    ),
  ].filter((one) => one !== undefined);
  return found.length === 0 ? undefined : found.join('; ');
}

type ShownSubnet = NetworkDetails['IPAM']['Config'][number];

function* subnetDifferences(
  { subnets, ipv6 }: NetworkDefinition,
  network: NetworkDetails,
): Generator<string | undefined> {
  const shown = new Map(
    network.IPAM.Config.flatMap((one) => (one.Subnet === undefined ? [] : [[one.Subnet, one]])),
  );
  const hasSubnet = (family: 4 | 6) => subnets.some(({ cidr }) => cidrFamily(cidr) === family);
  // Without a subnet Docker shows `0.0.0.0/0`, and for IPv6 the first pool of the moment.
  const isDefault = (text: string) =>
    text.includes(':') ? ipv6 && !hasSubnet(6) : text === '0.0.0.0/0' && !hasSubnet(4);
  const given = [...shown.keys()].filter((text) => !isDefault(text));
  yield compared('--subnet', list(given), list(subnets.map(({ cidr }) => cidr)));
  for (const subnet of subnets) {
    const same = shown.get(subnet.cidr);
    if (same !== undefined) yield* differencesWithin(subnet, same);
  }
}

function* differencesWithin(
  subnet: DefinedSubnet,
  shown: ShownSubnet,
): Generator<string | undefined> {
  const { cidr, range, gateway, auxiliary = {} } = subnet;
  yield compared(`--ip-range of ${cidr}`, orNone(shown.IPRange), range ?? 'none');
  yield compared(`--gateway of ${cidr}`, gatewayOf(cidr, shown) ?? 'none', gateway ?? 'none');
  yield compared(
    `--aux-address of ${cidr}`,
    pairs(shown.AuxiliaryAddresses, withoutLength),
    pairs(auxiliary),
  );
}

/** Returns the gateway that was requested; the next hop of a network without `--gateway` is outside its subnet. */
function gatewayOf(cidr: Cidr, { Gateway = '' }: ShownSubnet): string | undefined {
  const address = tryParseAddress(withoutLength(Gateway));
  if (address === undefined || isUnspecified(address)) return undefined;
  const isInside = familyOf(address) === cidrFamily(cidr) && cidrContains(cidr, address);
  return isInside ? address : undefined;
}

function compared<Value>(what: string, shown: Value, defined: Value): string | undefined {
  return shown === defined ? undefined : `${what} is ${String(shown)}, defined: ${String(defined)}`;
}

function list(texts: readonly string[]): string {
  return texts.length === 0 ? 'none' : texts.toSorted().join(',');
}

function pairs(
  map: Readonly<Record<string, string>>,
  shown: (value: string) => string = (value) => value,
): string {
  return list(Object.entries(map).map(([key, value]) => `${key}=${shown(value)}`));
}

function orNone(text: string | undefined): string {
  return text === undefined || text === '' ? 'none' : text;
}

function withoutLength(text: string): string {
  return text.replace(/\/\d+$/, '');
}

/** Returns options by their meaning: a key may have a prefix or another name. Unreadable ones equal nothing. */
function parsedOptions(options: Readonly<Record<string, string>>): object {
  try {
    const { name: _, ...parsed } = parseNetworkOptions(options);
    return parsed;
  } catch (error) {
    return { options, why: describe(error) };
  }
}
