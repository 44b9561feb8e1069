import { CalicoError, describe } from '../../errors/error.ts';
import { familyOf, parseAddress, type IpAddress } from '../../ip/address.ts';
import { describeRange, unusableNextHop } from '../../ip/special-ranges.ts';
import type { NetworkOptions } from '../../model/kinds/docker-network.ts';
import { isLabelKey, isLabelValue, isReservedLabel } from '../../model/fields.ts';
import { namesInList } from '../../model/names-in-list.ts';
import { defaultNamespace, isNamespace, isReservedProfileName } from '../../model/namespaces.ts';

/** The parsed options of `docker network create -o`. */
export interface CreateOptions {
  readonly options: NetworkOptions;
  /** Docker's name of the network, if the caller gave it. */
  readonly name?: string;
  readonly nextHop4?: IpAddress;
  readonly nextHop6?: IpAddress;
}

interface MutableOptions {
  profiles?: string[];
  namespace?: string;
  mtu?: number;
  natOutgoing?: boolean;
  labels?: Record<string, string>;
  interfacePrefix?: string;
  published?: 'policy';
  name?: string;
  nextHop4?: IpAddress;
  nextHop6?: IpAddress;
}

type Reader = (into: MutableOptions, value: string) => void;

/**
 * The keys of `docker network create -o KEY=VALUE`. docs/networks.md has the same table. Docker's own names for the
 * same thing are accepted; `label.` is followed by any label key.
 */
const readers: Readonly<Record<string, Reader>> = {
  name: (into, value) => {
    into.name = value;
  },
  profiles: (into, value) => {
    into.profiles = parseProfiles(value);
  },
  namespace: (into, value) => {
    if (!isNamespace(value)) {
      throw new Error(
        'must be at most 63 lower-case letters, digits and "-", with a letter or digit at both ends',
      );
    }
    into.namespace = value;
  },
  mtu: (into, value) => {
    into.mtu = parseMtu(value);
  },
  'nat-outgoing': (into, value) => {
    into.natOutgoing = parseFlag(value);
  },
  published: (into, value) => {
    if (value !== 'policy') throw new Error('must be policy, or left out');
    into.published = value;
  },
  'next-hop': (into, value) => {
    const address = parseAddress(value);
    const special = unusableNextHop(address);
    if (special !== undefined) throw new Error(`cannot be a next hop: ${describeRange(special)}`);
    if (familyOf(address) === 4) into.nextHop4 = address;
    else into.nextHop6 = address;
  },
  'interface-prefix': (into, value) => {
    if (!/^[a-zA-Z][a-zA-Z0-9_.-]{0,11}$/.test(value)) {
      throw new Error('must be a short interface name prefix such as eth');
    }
    into.interfacePrefix = value;
  },
};

const synonyms: Readonly<Record<string, string>> = {
  // Like the label of a container.
  profile: 'profiles',
  'com.docker.network.driver.mtu': 'mtu',
  'com.docker.network.container_iface_prefix': 'interface-prefix',
};

/** Keys that dockerd handles itself although it also passes them to the driver. */
const readByDocker = /^com\.docker\.network\.(advertise_addr_(nmsgs|ms)|enable_ipv[46])$/;

/** The keys that `-o` accepts, for messages and the documentation. */
export const networkOptionKeys: readonly string[] = [...Object.keys(readers), 'label.KEY'];

/** Aliases of these keys, also listed in docs/networks.md. */
export const networkOptionSynonyms: readonly string[] = Object.keys(synonyms);

/**
 * Parses the generic options of CreateNetwork. A key may have the prefix `org.projectcalico.`. Throws
 * `driver/unknown-option`, naming the known ones, or `driver/bad-option`.
 */
export function parseNetworkOptions(generic: Readonly<Record<string, unknown>>): CreateOptions {
  const into: MutableOptions = {};
  const read = new Set<string>();
  for (const [key, value] of Object.entries(generic)) {
    if (readByDocker.test(key)) continue;
    const name = canonicalKey(key);
    // Docker passes options in no order, so neither is the later one.
    if (read.has(name)) {
      const why = `${name} is given twice`;
      throw new CalicoError('driver/bad-option', { key, value: String(value), why });
    }
    read.add(name);
    readOption(into, key, String(value));
  }
  const { name, nextHop4, nextHop6, ...options } = into;
  return {
    options,
    ...(name === undefined ? {} : { name }),
    ...(nextHop4 === undefined ? {} : { nextHop4 }),
    ...(nextHop6 === undefined ? {} : { nextHop6 }),
  };
}

/** Returns the namespace that options as a user wrote them name; the default one if they name none. */
export function namespaceOfOptions(options: Readonly<Record<string, string>>): string {
  const named = Object.entries(options).find(([key]) => canonicalKey(key) === 'namespace');
  return named?.[1] ?? defaultNamespace;
}

/** Returns a key without the prefix, with aliases resolved. */
function canonicalKey(key: string): string {
  const own = key.replace(/^org\.projectcalico\./, '');
  return synonyms[own] ?? own;
}

function readOption(into: MutableOptions, key: string, value: string): void {
  const own = canonicalKey(key);
  try {
    if (own.startsWith('label.')) {
      into.labels = { ...into.labels, ...parseLabel(own.slice('label.'.length), value) };
      return;
    }
    const reader = readers[own];
    if (reader === undefined) {
      throw new CalicoError('driver/unknown-option', { key, known: networkOptionKeys.join(', ') });
    }
    reader(into, value);
  } catch (error) {
    if (error instanceof CalicoError && error.code === 'driver/unknown-option') throw error;
    throw new CalicoError(
      'driver/bad-option',
      { key, value, why: describe(error) },
      { cause: error },
    );
  }
}

/** Parses one label; throws a sentence if Calico does not allow it. */
export function parseLabel(key: string, value: string): Readonly<Record<string, string>> {
  if (!isLabelKey(key)) throw new Error(`"${key}" is not a legal label key`);
  if (isReservedLabel(key)) throw new Error(`"${key}" is reserved by Calico`);
  if (!isLabelValue(value)) throw new Error(`"${value}" is not a legal label value`);
  return { [key]: value };
}

/**
 * Parses a comma-separated list of Profile names, as Docker or Calico writes them; at least one. Those of namespaces are
 * rejected: an endpoint with one would pose as one of that namespace.
 */
export function parseProfiles(value: string): string[] {
  const names = namesInList(value);
  if (names.length === 0) throw new Error('must name at least one Profile');
  const reserved = names.find(isReservedProfileName);
  if (reserved !== undefined) throw new Error(`"${reserved}" is reserved by Calico`);
  return names;
}

function parseMtu(value: string): number {
  const mtu = Number(value);
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > 65535) {
    throw new Error('must be a number of bytes from 576 to 65535');
  }
  return mtu;
}

function parseFlag(value: string): boolean {
  const word = value.toLowerCase();
  if (word === 'true' || word === '1') return true;
  if (word === 'false' || word === '0') return false;
  throw new Error('must be true or false');
}
