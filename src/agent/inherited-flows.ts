import { endFlows } from '../dataplane/netlink/conntrack.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { endpointAddresses, type WorkloadEndpoint } from '../model/workload-endpoint.ts';

/**
 * Ends the flows of an address that another endpoint has now. To the kernel they are established, so their packets
 * would pass the new endpoint's policy unasked. An address that nobody has again costs nothing.
 */
export class InheritedFlows {
  readonly #netfilter: NetlinkSocket;
  /** Who had an address last, by Docker's ID of the endpoint. */
  readonly #owners = new Map<IpAddress, string>();
  readonly #inherited = new Set<IpAddress>();

  constructor(netfilter: NetlinkSocket) {
    this.#netfilter = netfilter;
  }

  /** A local endpoint as it is now. */
  setEndpoint(endpoint: WorkloadEndpoint | undefined): void {
    if (endpoint === undefined) return;
    for (const address of endpointAddresses(endpoint)) {
      const before = this.#owners.get(address);
      this.#owners.set(address, endpoint.spec.endpoint);
      if (before !== undefined && before !== endpoint.spec.endpoint) this.#inherited.add(address);
    }
  }

  /** To be called before the new endpoint's packets can pass. */
  end(families: readonly IpFamily[]): void {
    if (this.#inherited.size === 0) return;
    const inherited = new Set(this.#inherited);
    this.#inherited.clear();
    endFlows(this.#netfilter, families, ({ source, destination, answerer }) =>
      [source, destination, answerer].some((address) => inherited.has(address)),
    );
  }
}
