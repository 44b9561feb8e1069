import type { IpAddress, IpFamily } from '../ip/address.ts';
import { endFlows, endFlowsOf, type Flow } from './netlink/conntrack.ts';
import type { NetlinkSocket } from './netlink/socket.ts';

export type { Flow } from './netlink/conntrack.ts';

/**
 * The connections that the kernel tracks. It asks the rules about a flow's first packet only, so flows that are not
 * to go on are ended; their next packets are judged as new. All of it throws `kernel/refused`.
 */
export interface Conntrack {
  /** Ends those flows of some families that are to end; answers how many. */
  end(families: readonly IpFamily[], isToEnd: (flow: Flow) => boolean): number;
  /** Ends the flows that some addresses began or answer; answers how many. */
  endOf(addresses: ReadonlySet<IpAddress>): number;
}

/** That of a socket's network namespace. */
export function conntrackOf(netfilter: NetlinkSocket): Conntrack {
  return {
    end: (families, isToEnd) => endFlows(netfilter, families, isToEnd),
    endOf: (addresses) => endFlowsOf(netfilter, addresses),
  };
}
