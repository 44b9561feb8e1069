import { setImmediate } from 'node:timers/promises';
import type { Conntrack, Flow } from './conntrack.ts';
import { cidrContains, cidrFamily, isHostCidr, splitCidr, type Cidr } from '../ip/cidr.ts';

/**
 * Deletes the conntrack entries of addresses before their packets go to another endpoint. To the kernel these
 * connections are established, so their packets would bypass the policy of the new endpoint, in both directions, also
 * through a published port or masquerading.
 *
 * Call it when nothing is routed to the new endpoint yet and the former endpoint is no longer dispatched. A packet in
 * flight between its conntrack lookup and its route lookup keeps its verdict. The second flush, done if the first
 * deleted anything, takes the kernel longer than such a packet.
 */
export function staleConntrackFlusher(conntrack: Pick<Conntrack, 'flush' | 'flushOf'>) {
  return async (destinations: readonly Cidr[]): Promise<void> => {
    // The response to Docker's request is sent first, because the kernel may use a CPU for a while.
    await setImmediate();
    const addresses = new Set(
      destinations.filter(isHostCidr).map((destination) => splitCidr(destination).address),
    );
    const flushed = addresses.size === 0 ? addresses : await conntrack.flushOf(addresses);
    if (flushed.size > 0) await conntrack.flushOf(flushed);
    for (const network of destinations.filter((destination) => !isHostCidr(destination))) {
      const isInside = ({ source, answerer }: Flow) =>
        cidrContains(network, source) || cidrContains(network, answerer);
      const families = [cidrFamily(network)];
      if (conntrack.flush(families, isInside) > 0) conntrack.flush(families, isInside);
    }
  };
}
