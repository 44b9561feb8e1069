import { setImmediate } from 'node:timers/promises';
import type { Conntrack } from './conntrack.ts';
import { splitCidr, type Cidr } from '../ip/cidr.ts';

/**
 * Deletes the conntrack entries of addresses before their packets go to another endpoint. To the kernel these
 * connections are established, so their packets would bypass the policy of the new endpoint, in both directions, also
 * through a published port or masquerading.
 *
 * Call it when nothing is routed to the new endpoint yet and the former endpoint is no longer dispatched. A packet in
 * flight between its conntrack lookup and its route lookup keeps its verdict. The second flush, done if the first
 * deleted anything, takes the kernel longer than such a packet.
 */
export function staleConntrackFlusher(conntrack: Pick<Conntrack, 'flushOf'>) {
  return async (destinations: readonly Cidr[]): Promise<void> => {
    // The response to Docker's request is sent first, because the kernel may use a CPU for a while.
    await setImmediate();
    const addresses = new Set(destinations.map((destination) => splitCidr(destination).address));
    const flushed = await conntrack.flushOf(addresses);
    if (flushed.size > 0) await conntrack.flushOf(flushed);
  };
}
