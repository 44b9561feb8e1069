import type { IpAddress } from '../ip/address.ts';
import { hostCidr } from '../ip/cidr.ts';
import { Refusals, type ApplyFailure } from './apply-failure.ts';
import { switchOnIpv6 } from './host-settings.ts';
import { addHostAddress, listAddresses, removeHostAddress } from './netlink/address.ts';
import type { Link } from './netlink/link.ts';
import { isRefusal, type NetlinkSocket } from './netlink/socket.ts';

/** A next hop of a network on a host interface; IPv6 resolves neighbours only by addresses of the link. */
export interface DesiredAddress {
  readonly interface: string;
  readonly address: IpAddress;
}

/** The link addresses that this process added. Others are never changed. */
export class LinkAddresses {
  readonly #socket: NetlinkSocket;
  readonly #links: ReadonlyMap<string, Link>;
  readonly #desired = new Map<string, DesiredAddress>();
  /** Added addresses that are not desired any longer. */
  readonly #gone = new Map<string, DesiredAddress>();
  readonly #present = new Set<string>();
  readonly #refused = new Refusals<string>();
  readonly #kept = new Refusals<string>();

  /** `links`: the current links of the host by name. */
  constructor(socket: NetlinkSocket, links: ReadonlyMap<string, Link>) {
    this.#socket = socket;
    this.#links = links;
  }

  setDesired(address: DesiredAddress): void {
    this.#desired.set(keyOf(address), address);
    this.#gone.delete(keyOf(address));
  }

  deleteDesired(address: DesiredAddress): void {
    const key = keyOf(address);
    this.#desired.delete(key);
    this.#refused.delete(key);
    if (this.#present.delete(key)) this.#gone.set(key, address);
  }

  /** Handles a link that was removed or recreated: it has none of its addresses. */
  linkChanged(name: string): void {
    for (const key of this.#present) if (key.startsWith(`${name} `)) this.#present.delete(key);
  }

  /** Handles an address removed from the kernel; returns whether it is to be added again. */
  gone(address: DesiredAddress): boolean {
    const key = keyOf(address);
    return this.#present.delete(key) && this.#desired.has(key);
  }

  /** Reads them from the kernel. Throws `kernel/refused`. */
  resync(): void {
    const nameOf = new Map([...this.#links.values()].map(({ index, name }) => [index, name]));
    this.#present.clear();
    for (const { linkIndex, address } of listAddresses(this.#socket)) {
      const name = nameOf.get(linkIndex);
      if (name !== undefined) this.#present.add(keyOf({ interface: name, address }));
    }
  }

  /** Applies the delta, except changes refused a moment ago. */
  apply(): void {
    for (const [key, desired] of this.#desired) this.#add(key, desired);
    for (const [key, gone] of this.#gone) this.#remove(key, gone);
  }

  /**
   * Enables IPv6 again if another program has disabled it, which removes the addresses; returns whether it was
   * disabled.
   */
  reviveIpv6(name: string): boolean {
    if (!switchOnIpv6(name)) return false;
    this.linkChanged(name);
    for (const [key, desired] of this.#desired)
      if (desired.interface === name) this.#add(key, desired);
    return true;
  }

  failures(): readonly ApplyFailure[] {
    return [...this.#refused.failures(), ...this.#kept.failures()];
  }

  get hasDue(): boolean {
    return this.#refused.hasDue || this.#kept.hasDue;
  }

  #add(key: string, { interface: name, address }: DesiredAddress): void {
    const link = this.#links.get(name);
    if (link === undefined || this.#present.has(key) || !this.#refused.isDue(key)) return;
    const about = { what: `next hop ${address} on ${name}`, net: hostCidr(address) };
    this.#refused.attempt(key, about, () => {
      try {
        addHostAddress(this.#socket, { linkIndex: link.index, address });
        this.#present.add(key);
      } catch (error) {
        // IPv6 is off on this host or interface, which the route to the endpoint will meet as well.
        if (!isRefusal(error, 'EACCES', 'EPERM', 'ENODEV', 'EOPNOTSUPP', 'EINVAL')) throw error;
      }
    });
  }

  #remove(key: string, { interface: name, address }: DesiredAddress): void {
    const link = this.#links.get(name);
    if (link === undefined) this.#gone.delete(key);
    if (link === undefined || !this.#kept.isDue(key)) return;
    const about = {
      what: `removal of the next hop ${address} from ${name}`,
      net: hostCidr(address),
    };
    this.#kept.attempt(key, about, () => {
      removeHostAddress(this.#socket, { linkIndex: link.index, address });
      this.#gone.delete(key);
    });
  }
}

function keyOf({ interface: name, address }: DesiredAddress): string {
  return `${name} ${address}`;
}
