import type { IpAddress, IpFamily } from '../ip/address.ts';
import { flushFlows, flushFlowsOf, type Flow } from './netlink/conntrack.ts';
import type { KernelSockets } from './kernel-sockets.ts';

export type { Flow } from './netlink/conntrack.ts';

/**
 * The kernel's connection tracking. Rules see only the first packet of a flow, so flows that must not continue are
 * deleted; their next packets are judged as new. All methods throw `kernel/refused`.
 */
export interface Conntrack {
  /** Deletes the flows of some families that match; returns how many. */
  flush(families: readonly IpFamily[], isToFlush: (flow: Flow) => boolean): number;
  /**
   * Deletes the flows that some addresses started or answer. Returns the addresses whose flows may have been deleted.
   * One call at a time.
   */
  flushOf(addresses: ReadonlySet<IpAddress>): Promise<ReadonlySet<IpAddress>>;
}

/** Returns the connection tracking of the sockets' network namespace. */
export function conntrackOf({ netfilter, flows }: KernelSockets): Conntrack {
  return {
    flush: (families, isToFlush) => flushFlows(netfilter, families, isToFlush),
    flushOf: (addresses) => flushFlowsOf(flows, addresses),
  };
}
