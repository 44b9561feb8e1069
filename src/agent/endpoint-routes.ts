import type { Routes, WantedAddress } from '../dataplane/routes.ts';
import { familyOf, type IpAddress, type IpFamily } from '../ip/address.ts';
import { cidrFamily, hostCidr, type Cidr } from '../ip/cidr.ts';
import type { DockerNetwork } from '../model/docker-network.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/workload-endpoint.ts';

/**
 * What routes this host wants: one to each address of its endpoints, and the next hops of its networks, which
 * the host answers for. IPv4 answers for an address that it has anywhere; IPv6 needs it on the very link.
 */
export class EndpointRoutes {
  readonly #routes: Routes;
  readonly #families: readonly IpFamily[];
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
  readonly #networks = new Map<string, DockerNetwork>();
  readonly #byDestination = new IdsByKey();
  readonly #byNetwork = new IdsByKey();
  readonly #linkAddresses = new Map<string, WantedAddress>();

  constructor(routes: Routes, families: readonly IpFamily[]) {
    this.#routes = routes;
    this.#families = families;
  }

  /** A local endpoint as it is now; `undefined`: it is gone. */
  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#endpoints.get(id);
    for (const network of before?.spec.ipNetworks ?? []) this.#byDestination.remove(network, id);
    this.#byNetwork.remove(networkIdOf(before), id);
    if (endpoint === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, endpoint);
    for (const network of endpoint?.spec.ipNetworks ?? []) this.#byDestination.add(network, id);
    this.#byNetwork.add(networkIdOf(endpoint), id);
    const destinations = new Set([
      ...(before?.spec.ipNetworks ?? []),
      ...(endpoint?.spec.ipNetworks ?? []),
    ]);
    for (const destination of destinations) this.#route(destination);
    this.#placeLinkAddress(id);
  }

  /** A network of this host as it is now; `undefined`: it is gone. */
  setNetwork(id: string, network: DockerNetwork | undefined): void {
    const before = this.#networks.get(id);
    if (network === undefined) this.#networks.delete(id);
    else this.#networks.set(id, network);
    const hops = [before?.nextHop4, network?.nextHop4].filter((hop) => hop !== undefined);
    for (const hop of new Set(hops)) this.#answerFor(hop);
    if (before?.nextHop6 === network?.nextHop6) return;
    for (const endpointId of this.#byNetwork.ids(id)) this.#placeLinkAddress(endpointId);
  }

  /** Whether the kernel routes to all addresses of an endpoint. */
  isRouted(endpoint: WorkloadEndpoint): boolean {
    return (endpoint.spec.ipNetworks ?? [])
      .filter((network) => this.#families.includes(cidrFamily(network)))
      .every((network) => this.#routes.has(network));
  }

  #route(destination: Cidr): void {
    const [owner] = [...this.#byDestination.ids(destination)].toSorted();
    const endpoint = owner === undefined ? undefined : this.#endpoints.get(owner);
    if (endpoint === undefined || !this.#families.includes(cidrFamily(destination))) {
      this.#routes.unwant(destination);
    } else {
      const { interfaceName } = endpoint.spec;
      this.#routes.want({ kind: 'endpoint', destination, interface: interfaceName });
    }
  }

  #answerFor(hop: IpAddress): void {
    const isWanted = [...this.#networks.values()].some(({ nextHop4 }) => nextHop4 === hop);
    const destination = hostCidr(hop);
    if (isWanted) this.#routes.want({ kind: 'local', destination });
    else this.#routes.unwant(destination);
  }

  #placeLinkAddress(id: string): void {
    const endpoint = this.#endpoints.get(id);
    const before = this.#linkAddresses.get(id);
    const hop = this.#networks.get(networkIdOf(endpoint) ?? '')?.nextHop6;
    const hasIpv6 = (endpoint?.spec.ipNetworks ?? []).some((one) => cidrFamily(one) === 6);
    const wanted =
      endpoint === undefined || hop === undefined || !hasIpv6 || familyOf(hop) !== 6
        ? undefined
        : { interface: endpoint.spec.interfaceName, address: hop };
    if (before !== undefined && before.address !== wanted?.address) {
      this.#routes.unwantAddress(before);
    }
    if (wanted === undefined) this.#linkAddresses.delete(id);
    else {
      this.#linkAddresses.set(id, wanted);
      this.#routes.wantAddress(wanted);
    }
  }
}

function networkIdOf(endpoint: WorkloadEndpoint | undefined): string | undefined {
  return endpoint?.metadata.annotations?.[endpointAnnotations.network];
}
