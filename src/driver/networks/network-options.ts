import { CalicoError, describe } from '../../errors/error.ts';
import { familyOf, parseAddress, type IpAddress } from '../../ip/address.ts';
import { describeRange, unusableNextHop } from '../../ip/special-ranges.ts';
import type { NetworkOptions } from '../../model/kinds/docker-network.ts';
import { isLabelKey, isLabelValue } from '../../model/fields.ts';

/** What `docker network create -o` said, parsed. */
export interface CreateOptions {
  readonly options: NetworkOptions;
  /** Docker's name of the network, where the caller gave it. */
  readonly name?: string;
  readonly nextHop4?: IpAddress;
  readonly nextHop6?: IpAddress;
}

interface MutableOptions {
  profiles?: string[];
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
 * The keys of `docker network create -o KEY=VALUE`. The table in docs/networks.md is this one. Docker's own
 * names for the same thing are understood; `label.` stands for any label key behind it.
 */
const readers: Readonly<Record<string, Reader>> = {
  name: (into, value) => {
    into.name = value;
  },
  profiles: (into, value) => {
    into.profiles = parseProfiles(value);
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
  // As the label of a container is called.
  profile: 'profiles',
  'com.docker.network.driver.mtu': 'mtu',
  'com.docker.network.container_iface_prefix': 'interface-prefix',
};

/** Keys that dockerd itself acts on although it hands them to the driver as well. */
const readByDocker = /^com\.docker\.network\.(advertise_addr_(nmsgs|ms)|enable_ipv[46])$/;

/** The keys that `-o` takes, for messages and the documentation. */
export const networkOptionKeys: readonly string[] = [...Object.keys(readers), 'label.KEY'];

/** Other names of these keys, which docs/networks.md tells as well. */
export const networkOptionSynonyms: readonly string[] = Object.keys(synonyms);

/**
 * Parses the generic options of CreateNetwork. A key may carry the prefix `org.projectcalico.`. Throws
 * `driver/unknown-option`, naming the known ones, or `driver/bad-option`.
 */
export function parseNetworkOptions(generic: Readonly<Record<string, unknown>>): CreateOptions {
  const into: MutableOptions = {};
  const read = new Set<string>();
  for (const [key, value] of Object.entries(generic)) {
    if (readByDocker.test(key)) continue;
    const name = canonicalKey(key);
    // Docker hands options over in no order, so that neither is the later one.
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

/** A key without our prefix, by its first name. */
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

/** One label as an object; throws a plain sentence for what Calico does not allow. */
export function parseLabel(key: string, value: string): Readonly<Record<string, string>> {
  if (!isLabelKey(key)) throw new Error(`"${key}" is not a legal label key`);
  if (!isLabelValue(value)) throw new Error(`"${value}" is not a legal label value`);
  return { [key]: value };
}

/** A comma-separated list of Profile names, as Docker or Calico writes them; at least one. */
export function parseProfiles(value: string): string[] {
  const names = value
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0) throw new Error('must name at least one Profile');
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
