import type { IpAddress, IpFamily } from '../ip/address.ts';
import { flushFlows, flushFlowsOf, type Flow } from './netlink/conntrack.ts';
import type { KernelSockets } from './kernel-sockets.ts';

export type { Flow } from './netlink/conntrack.ts';

/**
 * The connections that the kernel tracks. It asks the rules about a flow's first packet only, so flows that are not
 * to go on are ended; their next packets are judged as new. All of it throws `kernel/refused`.
 */
export interface Conntrack {
  /** Ends those flows of some families that are to end; answers how many. */
  flush(families: readonly IpFamily[], isToFlush: (flow: Flow) => boolean): number;
  /**
   * Ends the flows that some addresses began or answer. Returns those of which flows may have been ended. One call at
   * a time.
   */
  flushOf(addresses: ReadonlySet<IpAddress>): Promise<ReadonlySet<IpAddress>>;
}

/** That of the sockets' network namespace. */
export function conntrackOf({ netfilter, flows }: KernelSockets): Conntrack {
  return {
    flush: (families, isToFlush) => flushFlows(netfilter, families, isToFlush),
    flushOf: (addresses) => flushFlowsOf(flows, addresses),
  };
}
