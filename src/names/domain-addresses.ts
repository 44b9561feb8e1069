import type { IpAddress } from '../ip/address.ts';
import { DomainIndex } from '../model/domain-pattern.ts';

/** An address of a name and how long it is valid, in seconds. */
export interface AddressRecord {
  readonly address: IpAddress;
  readonly ttl: number;
}

/** A name with its addresses, each valid until a time in milliseconds. */
export interface ResolvedName {
  readonly name: string;
  readonly addresses: readonly { readonly address: IpAddress; readonly until: number }[];
}

/**
 * Names whose addresses are kept, apart from those that a set lists without wildcard: a wildcard must not let containers
 * fill the memory with names.
 */
const maxNames = 4096;
/** Addresses of one name, and of all: the owner of a domain may give others with each response. */
const maxOfName = 4096;
const maxAddresses = 32_768;
/** Addresses that are remembered after their expiry, and names of one of them. */
const maxFormer = 16_384;
const maxFormerNames = 16;
/** Addresses stay members for at least this long, in seconds, because programs keep them longer than they may. */
const leastSeconds = 60;
/** For the time between the answer and the connection, in seconds. */
const graceSeconds = 30;
/** The longest TTL that counts: what clients may cache, in seconds. */
export const maxTtl = 3600;
/** The longest time for which an address is kept, in seconds. */
export const longestSeconds: number = maxTtl + graceSeconds;

/**
 * Addresses of the domain names of network sets, as they were resolved. A set has those of all names that match one of
 * its domains, until they expire.
 */
export class DomainAddresses {
  readonly #domains = new DomainIndex();
  /** The time of expiry of each address, in milliseconds, by name in lower case. */
  readonly #names = new Map<string, Map<IpAddress, number>>();
  /** The names of each set. */
  readonly #ofSets = new Map<string, Set<string>>();
  /** The names of addresses that have expired, the latest last. */
  readonly #former = new Map<IpAddress, Set<string>>();
  #addressCount = 0;

  /** Sets the domains of a network set; none: it has no domains. */
  setDomains(set: string, domains: readonly string[]): void {
    const former = this.#ofSets.get(set) ?? [];
    this.#domains.set(set, domains);
    if (domains.length === 0) this.#ofSets.delete(set);
    else this.#ofSets.set(set, new Set(this.#namesOf(domains)));
    for (const name of former) if (this.setsOf(name).length === 0) this.#forget(name);
  }

  get isEmpty(): boolean {
    return this.#domains.size === 0;
  }

  /** The numbers of sets, names and addresses. */
  get counts(): { readonly sets: number; readonly names: number; readonly addresses: number } {
    const addresses = new Set([...this.#names.values()].flatMap((some) => [...some.keys()]));
    return { sets: this.#domains.size, names: this.#names.size, addresses: addresses.size };
  }

  /** Whether there are so many names or addresses that others are not kept. */
  get isFull(): boolean {
    return this.#names.size >= maxNames || this.#addressCount >= maxAddresses;
  }

  /** Returns the network sets of which a domain matches a name. */
  setsOf(name: string): readonly string[] {
    return this.#domains.ownersOf(name);
  }

  /** Reports whether a name has a place: of too many, the latest are not kept. */
  hasRoom(name: string): boolean {
    const isKnown = this.#names.has(name.toLowerCase());
    return isKnown || this.#names.size < maxNames || this.#domains.hasExactly(name);
  }

  /** Reports whether addresses of a name have a place; likewise. */
  hasRoomFor(name: string, addresses: readonly IpAddress[]): boolean {
    const known = this.#names.get(name.toLowerCase()) ?? new Map<IpAddress, number>();
    const added = new Set(addresses.filter((one) => !known.has(one))).size;
    if (added === 0) return true;
    return known.size + added <= maxOfName && this.#addressCount + added <= maxAddresses;
  }

  /** Adds addresses of a name; returns the sets that have new ones. Time in milliseconds. */
  add(name: string, records: readonly AddressRecord[], now: number): readonly string[] {
    const addresses = records.map(({ address, ttl }) => {
      const seconds = Math.max(Math.min(ttl, maxTtl), leastSeconds) + graceSeconds;
      return { address, until: now + seconds * 1000 };
    });
    return this.restore({ name, addresses }, now);
  }

  /** Adds addresses with the time of their expiry; returns the sets that have new ones. */
  restore({ name, addresses: all }: ResolvedName, now: number): readonly string[] {
    const key = name.toLowerCase();
    const added = all.filter(({ until }) => until > now);
    for (const { address, until } of all) if (until <= now) this.#remember(key, address);
    // The last set may have gone while the name was resolved.
    const sets = this.setsOf(key);
    if (added.length === 0 || sets.length === 0) return [];
    const addresses = this.#names.get(key) ?? new Map<IpAddress, number>();
    this.#names.set(key, addresses);
    for (const set of sets) this.#ofSets.get(set)?.add(key);
    const before = addresses.size;
    for (const { address, until } of added) {
      addresses.set(address, Math.max(until, addresses.get(address) ?? 0));
    }
    this.#addressCount += addresses.size - before;
    return addresses.size > before ? sets : [];
  }

  /** Returns all names with their addresses, those that have expired included. */
  names(): readonly ResolvedName[] {
    const former = [...this.#former].flatMap(([address, names]) =>
      Array.from(names, (name) => ({ name, address })),
    );
    const byName = Map.groupBy(former, ({ name }) => name);
    return Array.from(new Set([...byName.keys(), ...this.#names.keys()]), (name) => ({
      name,
      addresses: [
        ...(byName.get(name) ?? []).map(({ address }) => ({ address, until: 0 })),
        ...Array.from(this.#names.get(name) ?? [], ([address, until]) => ({ address, until })),
      ],
    }));
  }

  /** Returns the sets whose domains an address that has expired had: connections to it continue. */
  formerSetsOf(address: IpAddress): readonly string[] {
    const names = this.#former.get(address) ?? [];
    return [...new Set([...names].flatMap((name) => this.setsOf(name)))];
  }

  /** Removes what has expired; returns the sets that have changed. */
  expire(now: number): readonly string[] {
    const changed = new Set<string>();
    // The clock may have been set back.
    const latest = now + longestSeconds * 1000;
    for (const [name, addresses] of this.#names) {
      const before = addresses.size;
      for (const [address, expiry] of addresses) {
        if (expiry > latest) addresses.set(address, latest);
        if (expiry > now) continue;
        addresses.delete(address);
        this.#remember(name, address);
      }
      if (addresses.size === before) continue;
      this.#addressCount -= before - addresses.size;
      for (const set of this.setsOf(name)) changed.add(set);
      if (addresses.size === 0) this.#forget(name);
    }
    return [...changed];
  }

  /** Returns the addresses of a set, without duplicates. */
  addressesOf(set: string): readonly IpAddress[] {
    const names = this.#ofSets.get(set) ?? [];
    return [...new Set([...names].flatMap((name) => [...(this.#names.get(name)?.keys() ?? [])]))];
  }

  /** Returns the known names that match one of the domains. */
  #namesOf(domains: readonly string[]): readonly string[] {
    const wanted = new DomainIndex();
    wanted.set('', domains);
    return [...this.#names.keys()].filter((name) => wanted.ownersOf(name).length > 0);
  }

  /** Of too many, the earliest are forgotten. */
  #remember(name: string, address: IpAddress): void {
    const names = this.#former.get(address) ?? new Set();
    names.delete(name);
    this.#former.delete(address);
    this.#former.set(address, names.add(name));
    const [firstName = ''] = names;
    if (names.size > maxFormerNames) names.delete(firstName);
    const [first = address] = this.#former.keys();
    if (this.#former.size > maxFormer) this.#former.delete(first);
  }

  #forget(name: string): void {
    this.#addressCount -= this.#names.get(name)?.size ?? 0;
    this.#names.delete(name);
    for (const set of this.setsOf(name)) this.#ofSets.get(set)?.delete(name);
  }
}
