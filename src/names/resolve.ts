import { familyOf, type IpAddress, type IpFamily } from '../ip/address.ts';
import { splitCidr } from '../ip/cidr.ts';
import type { NamedEndpoint, NameIndex } from './name-index.ts';

/** What may ask: a container, by its networks. */
export interface Asker {
  /** This host. */
  readonly node: string;
  /** Names of the networks that the container is on, in the order in which they are searched. */
  readonly networks: readonly string[];
}

/**
 * Returns the addresses that a name means for a container; `undefined` if Docker's own name server knows as much,
 * because no container of another host is meant.
 *
 * As with Docker, the first network with the name decides, and `name.network` names a network: both parts may contain
 * dots, so the name as a whole comes first, then each split, from the right. An alias means the containers of all
 * hosts that have it. A container's own name means the container of this host if there is one.
 */
export function resolveName(
  index: NameIndex,
  { node, networks }: Asker,
  name: string,
): readonly IpAddress[] | undefined {
  for (const { label, network } of splits(name)) {
    const searched =
      network === undefined
        ? networks
        : networks.filter((one) => one.toLowerCase() === network.toLowerCase());
    const found = searched.map((one) => index.named(one, label));
    const isOwnName = (one: NamedEndpoint) => one.node === node && isNamed(one, label);
    const hasOwn = found.some((endpoints) => endpoints.some(isOwnName));
    for (const endpoints of found) {
      const meant = hasOwn
        ? endpoints.filter((one) => one.node === node || hasAlias(one, label))
        : endpoints;
      if (meant.some((one) => one.node !== node)) return addressesOf(meant);
      if (meant.length > 0) return undefined;
    }
  }
  return undefined;
}

/**
 * Returns the name `container.network` of an address; `undefined` if no container of another host on a network of the
 * asker has it.
 */
export function resolveAddress(
  index: NameIndex,
  { node, networks }: Asker,
  address: IpAddress,
): string | undefined {
  for (const network of networks) {
    const [found] = index.withAddress(network, address);
    if (found?.name !== undefined && found.node !== node) return `${found.name}.${network}`;
  }
  return undefined;
}

/** Returns a list that starts at another place: `start` counts modulo its length. */
export function rotated<Item>(list: readonly Item[], start: number): readonly Item[] {
  const at = list.length === 0 ? 0 : start % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

function* splits(
  name: string,
): Generator<{ readonly label: string; readonly network: string | undefined }> {
  yield { label: name, network: undefined };
  for (let dot = name.lastIndexOf('.'); dot > 0; dot = name.lastIndexOf('.', dot - 1)) {
    yield { label: name.slice(0, dot), network: name.slice(dot + 1) };
  }
}

function isNamed({ name }: NamedEndpoint, label: string): boolean {
  return name?.toLowerCase() === label.toLowerCase();
}

function hasAlias({ aliases }: NamedEndpoint, label: string): boolean {
  return aliases.some((alias) => alias.toLowerCase() === label.toLowerCase());
}

/** Returns one address of each family per container: those from Docker, not the extra ones. */
function addressesOf(endpoints: readonly NamedEndpoint[]): readonly IpAddress[] {
  const families: readonly IpFamily[] = [4, 6];
  return endpoints.flatMap(({ nets }) => {
    const addresses = nets.map((net) => splitCidr(net).address);
    return families.flatMap((family) => addresses.find((one) => familyOf(one) === family) ?? []);
  });
}
