import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import type { Uplinks } from '../dataplane/uplinks.ts';
import type { IpAddress } from '../ip/address.ts';

/**
 * The MTU of this host's uplinks in bytes. It is read once, and again after the kernel reported a change that may concern
 * it: a host has an interface, an address and a route for each container, which would all be read for the next one.
 */
export class UplinkMtu {
  readonly #read: (ownAddresses: readonly IpAddress[]) => Uplinks;
  #known: (Uplinks & { readonly own: readonly IpAddress[] }) | undefined;

  /** `read`: those of the default route, and those with the addresses by which other hosts reach this one. */
  constructor(read: (ownAddresses: readonly IpAddress[]) => Uplinks) {
    this.#read = read;
  }

  /** Returns the MTU in bytes, given the addresses by which other hosts reach this one. */
  bytes(ownAddresses: readonly IpAddress[]): number {
    if (this.#known?.own.join() !== ownAddresses.join()) {
      this.#known = { ...this.#read(ownAddresses), own: ownAddresses };
    }
    return this.#known.mtuBytes;
  }

  onKernelEvents(events: readonly KernelEvent[]): void {
    if (events.some((event) => this.#mayConcern(event))) this.#known = undefined;
  }

  /**
   * An interface becomes an uplink by a route or an address, which are reported. Routes that are removed with their
   * interface are not, but the change of the interface is.
   */
  #mayConcern(event: KernelEvent): boolean {
    switch (event.kind) {
      case 'link':
        return this.#known?.indexes.has(event.link.index) === true;
      case 'address':
        return this.#known?.own.includes(event.address.address) === true;
      case 'routeMade':
      case 'routeGone':
        return event.route.destination === '0.0.0.0/0';
      case 'overrun':
        return true;
      case 'neighbour':
      case 'nftables':
        return false;
      default:
        return event satisfies never;
    }
  }
}
