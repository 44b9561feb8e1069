import type { EntryChange } from '../../cache/mirror.ts';
import type { ApplyFailure } from '../../dataplane/apply-failure.ts';
import { ReferenceCounts } from '../../dataplane/reference-counts.ts';
import type { Routes, DesiredAddress } from '../../dataplane/routes/routes.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { cidrFamily, hostCidr, isHostCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { IdsByKey } from '../../model/ids-by-key.ts';
import {
  endpointAddresses,
  endpointAnnotations,
  endpointPrefixes,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import { endpointOf, hasLocalInterface } from './local-endpoint.ts';
import { localNetwork } from './local-network.ts';

type EndpointRoutesKind = 'WorkloadEndpoint' | 'DockerNetwork';

type RouteDriver = Pick<
  Routes,
  'setDesired' | 'deleteDesired' | 'setDesiredAddress' | 'deleteDesiredAddress' | 'has'
>;

interface EndpointRoutesDeps extends Pick<ManagerDeps, 'node' | 'families'> {
  readonly kernel: { readonly routes: RouteDriver };
}

/**
 * The desired routes of this host: one to each address of its endpoints, one to each prefix behind them, and the next
 * hops of its networks, for which the host answers. IPv4 answers for an address on any interface; IPv6 needs the address
 * on the link itself.
 */
export class EndpointRoutes implements Manager<EndpointRoutesKind> {
  readonly name = 'routes to endpoints';
  readonly kinds = ['WorkloadEndpoint', 'DockerNetwork'] as const;
  readonly #node: string;
  readonly #routes: RouteDriver;
  readonly #families: readonly IpFamily[];
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
  readonly #networks = new Map<string, DockerNetwork>();
  readonly #byDestination = new IdsByKey();
  readonly #byPrefix = new IdsByKey();
  readonly #byNetwork = new IdsByKey();
  readonly #linkAddresses: ReferenceCounts<DesiredAddress>;
  readonly #nextHops: ReferenceCounts<IpAddress>;
  /** Networks of more than one address: a route to one could capture the host's own traffic. */
  readonly #unfit = new Set<Cidr>();
  /** Endpoints whose interface is not a container's. */
  readonly #strangers = new Map<string, WorkloadEndpoint>();

  constructor({ node, families, kernel: { routes } }: EndpointRoutesDeps) {
    this.#node = node;
    this.#routes = routes;
    this.#families = families;
    this.#linkAddresses = new ReferenceCounts(
      ({ interface: name, address }) => `${name} ${address}`,
      {
        setDesired: (address) => routes.setDesiredAddress(address),
        deleteDesired: (address) => routes.deleteDesiredAddress(address),
      },
    );
    this.#nextHops = new ReferenceCounts((hop: IpAddress) => hop, {
      setDesired: (hop) => routes.setDesired({ kind: 'local', destination: hostCidr(hop) }),
      deleteDesired: (hop) => routes.deleteDesired({ kind: 'local', destination: hostCidr(hop) }),
    });
  }

  onChange(change: EntryChange<EndpointRoutesKind>): void {
    if (change.kind === 'WorkloadEndpoint') {
      this.setEndpoint(change.id, endpointOf(this.#node, change));
    } else {
      const network = localNetwork(this.#node, change);
      if (network !== undefined) this.setNetwork(network.id, network.now);
    }
  }

  /**
   * Sets the current state of a local endpoint; `undefined`: deleted. One with an interface of the host gets no route.
   */
  setEndpoint(id: string, now: WorkloadEndpoint | undefined): void {
    const isStranger = now !== undefined && !hasLocalInterface(now);
    if (isStranger) this.#strangers.set(id, now);
    else this.#strangers.delete(id);
    const endpoint = isStranger ? undefined : now;
    const before = this.#endpoints.get(id);
    for (const network of before?.spec.ipNetworks ?? []) this.#byDestination.remove(network, id);
    for (const prefix of endpointPrefixes(before)) this.#byPrefix.remove(prefix, id);
    this.#byNetwork.remove(networkIdOf(before), id);
    if (endpoint === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, endpoint);
    for (const network of endpoint?.spec.ipNetworks ?? []) this.#byDestination.add(network, id);
    for (const prefix of endpointPrefixes(endpoint)) this.#byPrefix.add(prefix, id);
    this.#byNetwork.add(networkIdOf(endpoint), id);
    const destinations = new Set([
      ...(before?.spec.ipNetworks ?? []),
      ...(endpoint?.spec.ipNetworks ?? []),
    ]);
    for (const destination of destinations) this.#route(destination);
    for (const prefix of new Set([...endpointPrefixes(before), ...endpointPrefixes(endpoint)]))
      this.#routePrefix(prefix);
    this.#placeLinkAddress(id);
  }

  /** Sets the current state of a network of this host; `undefined`: deleted. */
  setNetwork(id: string, network: DockerNetwork | undefined): void {
    const before = this.#networks.get(id);
    if (network === undefined) this.#networks.delete(id);
    else this.#networks.set(id, network);
    this.#nextHops.set(id, network?.nextHop4 === undefined ? [] : [network.nextHop4]);
    if (before?.nextHop6 === network?.nextHop6) return;
    for (const endpointId of this.#byNetwork.ids(id)) this.#placeLinkAddress(endpointId);
  }

  /** Reports whether the kernel has routes to all addresses of an endpoint and to the prefixes behind it. */
  isRouted(endpoint: WorkloadEndpoint): boolean {
    return [...(endpoint.spec.ipNetworks ?? []), ...endpointPrefixes(endpoint)]
      .filter((network) => this.#families.includes(cidrFamily(network)))
      .every((network) => this.#routes.has(network, endpoint.spec.interfaceName));
  }

  /** Reports networks of endpoints that have no route, and why. */
  failures(): readonly ApplyFailure[] {
    const networks = [...this.#unfit].map((net) => ({
      what: `route to ${net}`,
      why: 'an endpoint of this host must have single addresses, not a network',
      net,
    }));
    const strangers = [...this.#strangers.values()].map(({ metadata, spec }) => ({
      what: `endpoint ${metadata.name}`,
      why: `${spec.interfaceName} is not the interface of a container: its name must begin with cali`,
    }));
    return [...networks, ...strangers];
  }

  #route(destination: Cidr): void {
    const [owner] = [...this.#byDestination.ids(destination)].toSorted();
    const endpoint = owner === undefined ? undefined : this.#endpoints.get(owner);
    const isServed = this.#families.includes(cidrFamily(destination));
    const isUnfit = endpoint !== undefined && isServed && !isHostCidr(destination);
    if (isUnfit) this.#unfit.add(destination);
    else this.#unfit.delete(destination);
    if (endpoint === undefined || !isServed || isUnfit) {
      this.#routes.deleteDesired({ kind: 'endpoint', destination });
    } else {
      const { interfaceName } = endpoint.spec;
      this.#routes.setDesired({ kind: 'endpoint', destination, interface: interfaceName });
    }
  }

  /** Routes a prefix through the container's own address of the family, because the container forwards the packets. */
  #routePrefix(destination: Cidr): void {
    const [owner] = [...this.#byPrefix.ids(destination)].toSorted();
    const endpoint = owner === undefined ? undefined : this.#endpoints.get(owner);
    const family = cidrFamily(destination);
    const gateway = endpointAddresses(endpoint).find((one) => familyOf(one) === family);
    if (endpoint === undefined || gateway === undefined || !this.#families.includes(family)) {
      this.#routes.deleteDesired({ kind: 'prefix', destination });
    } else {
      const { interfaceName } = endpoint.spec;
      this.#routes.setDesired({ kind: 'prefix', destination, interface: interfaceName, gateway });
    }
  }

  #placeLinkAddress(id: string): void {
    const endpoint = this.#endpoints.get(id);
    const hop = this.#networks.get(networkIdOf(endpoint) ?? '')?.nextHop6;
    const hasIpv6 = (endpoint?.spec.ipNetworks ?? []).some((one) => cidrFamily(one) === 6);
    const isWanted = endpoint !== undefined && hasIpv6 && hop !== undefined && familyOf(hop) === 6;
    this.#linkAddresses.set(
      id,
      isWanted ? [{ interface: endpoint.spec.interfaceName, address: hop }] : [],
    );
  }
}

function networkIdOf(endpoint: WorkloadEndpoint | undefined): string | undefined {
  return endpoint?.metadata.annotations?.[endpointAnnotations.network];
}
