import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';

/**
 * Remembers which container of this host had an address last, so that the container gets it again: Docker releases
 * the address whenever a container stops, and requests any address when it starts again.
 *
 * Docker 29 names the container in the request. Earlier engines do not, and their API reports nothing about a start
 * before the address is chosen: `container create` and `rename` are the only earlier events, and while dockerd boots
 * its API does not respond. For these the container is inferred: the only one of the network that stopped or was
 * created recently, else the only stopped one of the network. If several are possible, none is chosen: losing an
 * address is better than getting that of another container.
 */

/** An address and its present or last container. */
export interface LastAddress {
  readonly address: IpAddress;
  /** Docker's name of the network; it survives recreation by Compose. */
  readonly network: string;
  /** Docker's name of the container. */
  readonly container: string;
  readonly containerId: string;
}

interface Remembered extends LastAddress {
  /** Time of release, in milliseconds since 1970; `undefined` while the container has it. */
  readonly freeSince: number | undefined;
  /** Time when Docker removed the container, or when the container got another address. */
  readonly goneSince: number | undefined;
}

/** How long after a stop or creation a container is likely to be the one that starts next, in milliseconds. */
const recentMs = 10_000;
/** How long the address of a removed container is kept for one of the same name, in milliseconds. */
const cooldownMs = 60_000;
/** Maximum of addresses remembered per host. */
const maxRemembered = 4096;

/** A request for an address. */
export interface Asking {
  readonly family: IpFamily;
  readonly network: string;
  /** The container's name, if Docker gives it. */
  readonly container: string | undefined;
}

export class LastAddresses {
  readonly #byAddress = new Map<IpAddress, Remembered>();
  /** Containers that have not been started yet, by ID. */
  readonly #created = new Map<string, { readonly name: string; readonly at: number }>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /**
   * Records the address of a container; it replaces its former one of the family on the network. That one is kept from
   * others for a while: when many containers start, they must not get each other's addresses.
   */
  used(last: LastAddress): void {
    const container = lastingName(last.container);
    for (const former of this.#of(last.network, container, familyOf(last.address))) {
      if (former.goneSince === undefined) {
        this.#byAddress.set(former.address, { ...former, goneSince: this.#now() });
      }
    }
    this.#created.delete(last.containerId);
    this.#put({ ...last, container, freeSince: undefined, goneSince: undefined });
  }

  /** Records the release of an address. */
  freed(address: IpAddress): void {
    const known = this.#byAddress.get(address);
    if (known !== undefined && known.freeSince === undefined) {
      this.#put({ ...known, freeSince: this.#now() });
    }
  }

  /** Docker created or renamed a container. */
  containerNamed(containerId: string, name: string, isNew: boolean): void {
    if (isNew || this.#created.has(containerId)) {
      this.#created.set(containerId, { name: lastingName(name), at: this.#now() });
    }
  }

  /** A container runs; the next start is of another one. */
  containerStarted(containerId: string): void {
    this.#created.delete(containerId);
  }

  /** Docker removed a container. */
  containerGone(containerId: string): void {
    this.#created.delete(containerId);
    for (const known of this.#byAddress.values()) {
      if (known.containerId !== containerId || known.goneSince !== undefined) continue;
      this.#byAddress.set(known.address, { ...known, goneSince: this.#now() });
    }
  }

  /** Takes the list of existing containers; all others were removed while the daemon did not listen. */
  containersAre(ids: ReadonlySet<string>): void {
    const known = [...this.#byAddress.values()].map(({ containerId }) => containerId);
    for (const id of [...known, ...this.#created.keys()]) if (!ids.has(id)) this.containerGone(id);
  }

  /** Returns the last address of the requesting container; `undefined` if it had none or is not known. */
  addressFor({ family, network, container }: Asking): IpAddress | undefined {
    const name = container === undefined ? this.#starting(network) : lastingName(container);
    return name === undefined ? undefined : this.#of(network, name, family).at(-1)?.address;
  }

  /** Reports whether an address is kept for its container, which exists or was removed recently. */
  isKept(address: IpAddress): boolean {
    const known = this.#byAddress.get(address);
    if (known === undefined) return false;
    return known.goneSince === undefined || this.#now() - known.goneSince < cooldownMs;
  }

  /** Returns all, the most recently used at the end; for the file that survives a restart of the daemon. */
  all(): readonly LastAddress[] {
    return [...this.#byAddress.values()].map(({ address, network, container, containerId }) => ({
      address,
      network,
      container,
      containerId,
    }));
  }

  /** Restores addresses from the file; they are free until `used` is called. */
  restore(kept: Iterable<LastAddress>): void {
    for (const last of kept) {
      const { network, container, address } = last;
      for (const former of this.#of(network, container, familyOf(address))) {
        this.#byAddress.delete(former.address);
      }
      this.#put({ ...last, freeSince: 0, goneSince: undefined });
    }
  }

  /** Returns the only container of a network that is likely to be starting, if there is exactly one. */
  #starting(network: string): string | undefined {
    const since = this.#now() - recentMs;
    const stopped = [...this.#byAddress.values()].filter(
      (known) =>
        known.network === network && known.freeSince !== undefined && known.goneSince === undefined,
    );
    const recent = [
      ...stopped
        .filter(({ freeSince = 0 }) => freeSince >= since)
        .map(({ container }) => container),
      ...[...this.#created.values()].filter(({ at }) => at >= since).map(({ name }) => name),
    ];
    return (
      onlyOne(recent) ??
      (recent.length === 0 ? onlyOne(stopped.map(({ container }) => container)) : undefined)
    );
  }

  /** Returns the addresses of a container, the most recent at the end. */
  #of(network: string, container: string, family: IpFamily): readonly Remembered[] {
    return [...this.#byAddress.values()].filter(
      (known) =>
        known.container === container &&
        known.network === network &&
        familyOf(known.address) === family,
    );
  }

  #put(remembered: Remembered): void {
    this.#byAddress.delete(remembered.address);
    this.#byAddress.set(remembered.address, remembered);
    const [oldest] = this.#byAddress.keys();
    if (this.#byAddress.size > maxRemembered && oldest !== undefined) {
      this.#byAddress.delete(oldest);
    }
  }
}

function onlyOne(names: readonly string[]): string | undefined {
  const [name, other] = new Set(names);
  return other === undefined ? name : undefined;
}

/** While Compose recreates a container, one of the two has a name prefixed with the ID of the other. */
function lastingName(name: string): string {
  return name.replace(/^[0-9a-f]{12}_/, '');
}
