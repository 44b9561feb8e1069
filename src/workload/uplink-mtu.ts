import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import type { IpAddress } from '../ip/address.ts';
import { hasWorkloadName } from './interfaces.ts';

/**
 * The MTU of this host's uplinks in bytes. It is read once, and again after the kernel reported a change that may concern
 * it: a host has an interface, an address and a route for each container, which would all be read for the next one.
 */
export class UplinkMtu {
  readonly #read: (ownAddresses: readonly IpAddress[]) => number;
  #known: { readonly of: string; readonly bytes: number } | undefined;

  /** `read` as `defaultMtuBytes`. */
  constructor(read: (ownAddresses: readonly IpAddress[]) => number) {
    this.#read = read;
  }

  /** Returns the MTU in bytes, given the addresses by which other hosts reach this one. */
  bytes(ownAddresses: readonly IpAddress[]): number {
    const of = ownAddresses.join();
    if (this.#known?.of !== of) this.#known = { of, bytes: this.#read(ownAddresses) };
    return this.#known.bytes;
  }

  onKernelEvents(events: readonly KernelEvent[]): void {
    if (events.some(mayConcern)) this.#known = undefined;
  }
}

/** Routes that are removed with their interface are not reported, but the change of the interface is. */
function mayConcern(event: KernelEvent): boolean {
  switch (event.kind) {
    case 'link':
      return !hasWorkloadName(event.link.name);
    case 'address':
      return !event.address.address.startsWith('fe80:');
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
