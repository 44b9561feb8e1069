import { setImmediate } from 'node:timers/promises';
import type { Conntrack } from './conntrack.ts';
import { splitCidr, type Cidr } from '../ip/cidr.ts';

/**
 * Ends the flows of addresses before their packets go to another endpoint. To the kernel they are established, so
 * their packets would pass the new endpoint's policy unasked, in both directions, also when their way leads by a
 * published port or is masqueraded.
 *
 * To be called when nothing is routed to the new endpoint yet and the former owner is dispatched no more. A packet
 * that was under way between the look at its connection and the look at the routes keeps its verdict; the second
 * look, which is made where there was anything to end, takes the kernel longer than a packet takes.
 */
export function staleConntrackFlusher(conntrack: Pick<Conntrack, 'flushOf'>) {
  return async (destinations: readonly Cidr[]): Promise<void> => {
    // The call of Docker's that made the endpoint is answered first: the kernel may need a processor for a while.
    await setImmediate();
    const addresses = new Set(destinations.map((destination) => splitCidr(destination).address));
    const flushed = await conntrack.flushOf(addresses);
    if (flushed.size > 0) await conntrack.flushOf(flushed);
  };
}
