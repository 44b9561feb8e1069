import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';

/**
 * Which container of this host had an address last, so that the address returns to it: Docker gives it back whenever a
 * container stops, and asks for any address when it starts again.
 *
 * Docker 29 says for which container it asks. Earlier engines do not, in no field of the call, and their API tells
 * nothing of a start before the address is chosen: `container create` and `rename` are the only events that come
 * earlier, and while dockerd boots it answers nothing at all. There the container is inferred: the only one of the
 * network that stopped or was created just now, else the only one of the network that is stopped. Where several may be
 * meant, none is: an address that a container does not get back is better than one that it gets of another.
 */

/** An address and the container that has it, or had it last. */
export interface LastAddress {
  readonly address: IpAddress;
  /** Docker's name of the network: it stays where Compose recreates the network. */
  readonly network: string;
  /** Docker's name of the container. */
  readonly container: string;
  readonly containerId: string;
}

interface Remembered extends LastAddress {
  /** When it was given back, in milliseconds since 1970; `undefined` while the container has it. */
  readonly freeSince: number | undefined;
  /** When Docker removed the container. */
  readonly goneSince: number | undefined;
}

/** How long after a stop or creation a container is likely to be the one that starts next, in milliseconds. */
const recentMs = 10_000;
/** How long the address of a removed container is kept for one of the same name, in milliseconds. */
const cooldownMs = 60_000;
/** As many are remembered of one host. */
const maxRemembered = 4096;

/** Who asks for an address. */
export interface Asking {
  readonly family: IpFamily;
  readonly network: string;
  /** The container's name, where Docker says it. */
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

  /** A container has an address; it gives up those of the family that it had on the network before. */
  used(last: LastAddress): void {
    const container = lastingName(last.container);
    const [former] = this.#of(last.network, container, familyOf(last.address));
    if (former !== undefined) this.#byAddress.delete(former.address);
    this.#created.delete(last.containerId);
    this.#put({ ...last, container, freeSince: undefined, goneSince: undefined });
  }

  /** An address was given back. */
  freed(address: IpAddress): void {
    const known = this.#byAddress.get(address);
    if (known !== undefined && known.freeSince === undefined) {
      this.#put({ ...known, freeSince: this.#now() });
    }
  }

  /** Docker made a container, or gave it another name. */
  containerNamed(containerId: string, name: string, isNew: boolean): void {
    if (isNew || this.#created.has(containerId)) {
      this.#created.set(containerId, { name: lastingName(name), at: this.#now() });
    }
  }

  /** A container runs, so the next that starts is another. */
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

  /** The containers that Docker has; all others were removed while nobody listened. */
  containersAre(ids: ReadonlySet<string>): void {
    const known = [...this.#byAddress.values()].map(({ containerId }) => containerId);
    for (const id of [...known, ...this.#created.keys()]) if (!ids.has(id)) this.containerGone(id);
  }

  /** The address that whoever asks had last; `undefined` where it had none, or is not known. */
  addressFor({ family, network, container }: Asking): IpAddress | undefined {
    const name = container === undefined ? this.#starting(network) : lastingName(container);
    return name === undefined ? undefined : this.#of(network, name, family)[0]?.address;
  }

  /** Whether an address is to go to others only where there is no other: its container exists, or did just now. */
  isKept(address: IpAddress): boolean {
    const known = this.#byAddress.get(address);
    if (known === undefined) return false;
    return known.goneSince === undefined || this.#now() - known.goneSince < cooldownMs;
  }

  /** All, the one that was used last at the end; for keeping them across a start of the daemon. */
  all(): readonly LastAddress[] {
    return [...this.#byAddress.values()].map(({ address, network, container, containerId }) => ({
      address,
      network,
      container,
      containerId,
    }));
  }

  /** Takes what was kept; nobody has these addresses unless `used` says so. */
  restore(kept: Iterable<LastAddress>): void {
    for (const last of kept) this.#put({ ...last, freeSince: 0, goneSince: undefined });
  }

  /** The container of a network that is most likely being started, if that is one alone. */
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

/** While Compose recreates a container, one of the two has a name that begins with the ID of the other. */
function lastingName(name: string): string {
  return name.replace(/^[0-9a-f]{12}_/, '');
}
