import type { EntryChange } from '../../cache/mirror.ts';
import { describe } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import { counted } from '../../model/counted.ts';
import type { NetworkSet } from '../../model/kinds/network-set.ts';
import { domainProblem } from '../../model/domain-pattern.ts';
import { DomainAddresses, maxTtl, type AddressRecord } from '../../names/domain-addresses.ts';
import { decodeQuery, encodeResponse } from '../../names/dns.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import { SavedDomainAddresses } from '../saved-domain-addresses.ts';
import { trustedResolver, type ResolveTrusted } from '../trusted-resolver.ts';

type SetKind = 'NetworkSet' | 'GlobalNetworkSet';

type DomainSetsDeps = Pick<
  ManagerDeps,
  'log' | 'resolvesNames' | 'resolveTrusted' | 'programmed' | 'domainAddressesFile'
>;

/** Queries that wait at the same time, because each occupies a socket; those of one container leave room for others. */
const maxWaiting = 256;
const maxWaitingOfContainer = 64;

/**
 * Network sets with domain names. A query of a container for such a name is resolved here, at servers that the container
 * cannot choose, and answered when the addresses are members of the kernel's sets. What a container learns in another
 * way, from another server or by DNS over HTTPS, is no member.
 */
export class DomainSets implements Manager<SetKind> {
  readonly name = 'domain names of network sets';
  readonly kinds = ['NetworkSet', 'GlobalNetworkSet'] as const;
  readonly #deps: DomainSetsDeps;
  readonly #engine: Pick<PolicyEngine, 'setDomains'>;
  readonly #resolveTrusted: ResolveTrusted;
  readonly #addresses = new DomainAddresses();
  /** Absent if nothing is to be saved. */
  readonly #saved: SavedDomainAddresses | undefined;
  readonly #sets = new Map<string, NetworkSet>();
  /** Called when the first set with domains appears. */
  onFirst: () => void = () => undefined;
  #waiting = 0;
  /** Queries that wait, by container. */
  readonly #waitingOf = new Map<string, number>();
  /** How often addresses were added, and how many of these the kernel has. */
  #changes = 0;
  #programmedChanges = 0;
  #lastFailure: string | undefined;

  constructor(deps: DomainSetsDeps, engine: Pick<PolicyEngine, 'setDomains'>) {
    this.#deps = deps;
    this.#resolveTrusted = deps.resolveTrusted ?? trustedResolver([]);
    this.#engine = engine;
    const { domainAddressesFile: file, log } = deps;
    const present = () => this.#addresses.names();
    this.#saved = file === undefined ? undefined : new SavedDomainAddresses({ file, log, present });
  }

  start(): void {
    this.#saved?.start(Date.now());
  }

  /** Whether queries of containers must be received. */
  get hasDomains(): boolean {
    return !this.#addresses.isEmpty;
  }

  onChange({ kind, id, now }: EntryChange<SetKind>): void {
    const key = `${kind} ${id}`;
    const domains = (now?.value.spec.allowedEgressDomains ?? []).filter(
      (one) => domainProblem(one) === undefined,
    );
    const before = this.#sets.get(key);
    if (before === undefined && domains.length === 0) return;
    const isFirst = this.#addresses.isEmpty;
    this.#addresses.setDomains(key, domains);
    if (now === undefined || domains.length === 0) this.#sets.delete(key);
    else this.#sets.set(key, now.value);
    this.#restore(domains);
    this.#update(key);
    if (isFirst && this.hasDomains) this.onFirst();
  }

  poll(): boolean {
    const now = Date.now();
    const changed = this.#addresses.expire(now);
    for (const key of changed) this.#update(key);
    if (changed.length > 0) this.#saved?.changed('new', now);
    this.#saved?.poll(now);
    return changed.length > 0;
  }

  stop(): void {
    this.#saved?.stop();
  }

  checks(): readonly Check[] {
    if (!this.hasDomains) return [];
    const { sets, names, addresses } = this.#addresses.counts;
    const counts = `${counted(sets, 'set')}, ${counted(names, 'name')} resolved, ${addresses} ${addresses === 1 ? 'address' : 'addresses'}`;
    const problem = !this.#deps.resolvesNames
      ? 'queries are not received, because CALICO_NAMES_ACROSS_HOSTS is false'
      : this.#addresses.isFull
        ? 'so many are kept that others by a wildcard open nothing until some expire'
        : this.#lastFailure;
    const detail = `${counts}; ${problem ?? 'addresses from other name servers or DNS over HTTPS are not members'}`;
    return [
      {
        name: this.name,
        ok: problem === undefined,
        detail,
        remedy:
          'Check the name servers of CALICO_DNS_TRUSTED_SERVERS, or of /etc/resolv.conf; set CALICO_NAMES_ACROSS_HOSTS=true.',
      },
    ];
  }

  /**
   * Answers a query for an address of a name of a network set; `undefined` for all others, and if it cannot be
   * resolved: then Docker's name server shall respond, and its addresses are no members. `container`: whose query it is.
   */
  respond(
    bytes: Buffer,
    transport: 'udp' | 'tcp',
    container: string,
  ): Promise<Buffer | undefined> | undefined {
    if (!this.hasDomains) return undefined;
    const query = decodeQuery(bytes);
    const { name = '', type } = query?.question ?? {};
    if (query === undefined || (type !== 'A' && type !== 'AAAA')) return undefined;
    if (this.#addresses.setsOf(name).length === 0 || !this.#addresses.hasRoom(name))
      return undefined;
    const waitingOfContainer = this.#waitingOf.get(container) ?? 0;
    if (this.#waiting >= maxWaiting || waitingOfContainer >= maxWaitingOfContainer)
      return undefined;
    this.#waiting++;
    this.#waitingOf.set(container, waitingOfContainer + 1);
    return this.#resolve(name, type).then((records) => {
      this.#waiting--;
      this.#waitedFor(container);
      if (records === undefined) return undefined;
      const ttl = Math.min(...records.map((one) => one.ttl), maxTtl);
      const addresses = records.map((one) => one.address);
      return encodeResponse(query, { addresses, ttl }, transport);
    });
  }

  /** Returns the sets, by kind and id, whose domains an address that has expired had. */
  formerSetsOf(address: IpAddress): readonly string[] {
    return this.#addresses.formerSetsOf(address);
  }

  /** Adds the addresses of a former run of the daemon. */
  #restore(domains: readonly string[]): void {
    const now = Date.now();
    for (const one of this.#saved?.take(domains) ?? []) {
      const valid = one.addresses.filter(({ until }) => until > now);
      const addresses = valid.map(({ address }) => address);
      if (!this.#addresses.hasRoom(one.name) || !this.#addresses.hasRoomFor(one.name, addresses))
        continue;
      for (const key of this.#addresses.restore(one, now)) this.#update(key);
    }
  }

  async #resolve(name: string, type: 'A' | 'AAAA'): Promise<readonly AddressRecord[] | undefined> {
    try {
      const records = await this.#resolveTrusted(name, type);
      // Any container can ask for a name that does not exist: it is no failure.
      if (records === undefined) return undefined;
      const addresses = records.map(({ address }) => address);
      if (!this.#addresses.hasRoomFor(name, addresses)) return undefined;
      const now = Date.now();
      const changed = this.#addresses.add(name, records, now);
      this.#saved?.changed(changed.length > 0 ? 'new' : 'extended', now);
      for (const key of changed) this.#update(key);
      if (changed.length > 0) this.#changes++;
      await this.#programmed();
      this.#lastFailure = undefined;
      return records;
    } catch (error) {
      this.#lastFailure = `${name}: ${describe(error)}`;
      this.#deps.log.debug('name of a network set not resolved', { name, why: describe(error) });
      return undefined;
    }
  }

  #waitedFor(container: string): void {
    const left = (this.#waitingOf.get(container) ?? 0) - 1;
    if (left > 0) this.#waitingOf.set(container, left);
    else this.#waitingOf.delete(container);
  }

  /** Resolves when the kernel has all addresses so far; also if those of another query were the last. */
  async #programmed(): Promise<void> {
    const changes = this.#changes;
    if (this.#programmedChanges >= changes) return;
    await this.#deps.programmed();
    this.#programmedChanges = Math.max(this.#programmedChanges, changes);
  }

  #update(key: string): void {
    const set = this.#sets.get(key);
    this.#engine.setDomains(key, set && { set, addresses: this.#addresses.addressesOf(key) });
  }
}
