import type { IpAddress } from '../ip/address.ts';
import { matchesDomain } from '../model/domain-pattern.ts';

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

/** Names whose addresses are kept; a wildcard must not let containers fill the memory with names. */
const maxNames = 4096;
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
  readonly #domains = new Map<string, readonly string[]>();
  /** The time of expiry of each address, in milliseconds, by name in lower case. */
  readonly #names = new Map<string, Map<IpAddress, number>>();

  /** Sets the domains of a network set; none: it has no domains. */
  setDomains(set: string, domains: readonly string[]): void {
    if (domains.length === 0) this.#domains.delete(set);
    else this.#domains.set(set, domains);
    for (const name of this.#names.keys()) {
      if (this.setsOf(name).length === 0) this.#names.delete(name);
    }
  }

  get isEmpty(): boolean {
    return this.#domains.size === 0;
  }

  /** The numbers of sets, names and addresses. */
  get counts(): { readonly sets: number; readonly names: number; readonly addresses: number } {
    const addresses = new Set([...this.#names.values()].flatMap((some) => [...some.keys()]));
    return { sets: this.#domains.size, names: this.#names.size, addresses: addresses.size };
  }

  /** Returns the network sets of which a domain matches a name. */
  setsOf(name: string): readonly string[] {
    return [...this.#domains].flatMap(([set, domains]) =>
      domains.some((domain) => matchesDomain(domain, name)) ? [set] : [],
    );
  }

  /** Reports whether a name has a place: of too many, the latest are not kept. */
  hasRoom(name: string): boolean {
    return this.#names.size < maxNames || this.#names.has(name.toLowerCase());
  }

  /** Adds addresses of a name; returns the sets that have new ones. Time in milliseconds. */
  add(name: string, records: readonly AddressRecord[], now: number): readonly string[] {
    const addresses = records.map(({ address, ttl }) => {
      const seconds = Math.max(Math.min(ttl, maxTtl), leastSeconds) + graceSeconds;
      return { address, until: now + seconds * 1000 };
    });
    return this.restore({ name, addresses });
  }

  /** Adds addresses with the time of their expiry; returns the sets that have new ones. */
  restore({ name, addresses: added }: ResolvedName): readonly string[] {
    const key = name.toLowerCase();
    const addresses = this.#names.get(key) ?? new Map<IpAddress, number>();
    if (added.length > 0) this.#names.set(key, addresses);
    const before = addresses.size;
    for (const { address, until } of added) {
      addresses.set(address, Math.max(until, addresses.get(address) ?? 0));
    }
    return addresses.size > before ? this.setsOf(key) : [];
  }

  /** Returns all names with their addresses. */
  names(): readonly ResolvedName[] {
    return Array.from(this.#names, ([name, addresses]) => ({
      name,
      addresses: Array.from(addresses, ([address, until]) => ({ address, until })),
    }));
  }

  /** Removes what has expired; returns the sets that have changed. */
  expire(now: number): readonly string[] {
    const changed = new Set<string>();
    for (const [name, addresses] of this.#names) {
      for (const [address, expiry] of addresses) {
        if (expiry > now) continue;
        addresses.delete(address);
        for (const set of this.setsOf(name)) changed.add(set);
      }
      if (addresses.size === 0) this.#names.delete(name);
    }
    return [...changed];
  }

  /** Returns the addresses of a set, without duplicates. */
  addressesOf(set: string): readonly IpAddress[] {
    const domains = this.#domains.get(set) ?? [];
    const found = [...this.#names].flatMap(([name, addresses]) =>
      domains.some((domain) => matchesDomain(domain, name)) ? [...addresses.keys()] : [],
    );
    return [...new Set(found)];
  }
}
