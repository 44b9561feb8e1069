import {
  applyContainerRoutes,
  isNamespaceGone,
  type ContainerPath,
} from '../dataplane/container-routes.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import type { Mirror } from '../datastore/mirror.ts';
import { describe } from '../errors/error.ts';
import { familyOf } from '../ip/address.ts';
import { cidrFamily, splitCidr, type Cidr } from '../ip/cidr.ts';
import type { DockerNetwork, NetworkSubnet } from '../model/docker-network.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import { poolFamily, poolIsEnabled } from '../model/ip-pool.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/workload-endpoint.ts';
import type { Logger } from '../telemetry/log.ts';

export interface ContainerPathsDeps {
  readonly libc: Libc;
  readonly mirror: Mirror;
  readonly log: Logger;
}

/**
 * The routes inside containers that Docker's answer to Join cannot give: on several networks the default
 * route is one network's, and an internal network has none.
 */
export class ContainerPaths {
  readonly #deps: ContainerPathsDeps;
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
  readonly #networks = new Map<string, DockerNetwork>();
  readonly #bySandbox = new IdsByKey();
  readonly #byInterface = new Map<string, string>();
  readonly #byEndpoint = new Map<string, string>();
  /** Containers that Docker has on other networks as well. */
  readonly #mixed = new Set<string>();

  constructor(deps: ContainerPathsDeps) {
    this.#deps = deps;
  }

  /** The local endpoint of a Docker endpoint ID. */
  endpoint(endpointId: string): WorkloadEndpoint | undefined {
    return this.#endpoints.get(this.#byEndpoint.get(endpointId) ?? '');
  }

  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#endpoints.get(id);
    if (before !== undefined) {
      this.#bySandbox.remove(sandboxOf(before), id);
      this.#byInterface.delete(before.spec.interfaceName);
      this.#byEndpoint.delete(before.spec.endpoint);
      this.#endpoints.delete(id);
      const sandbox = sandboxOf(before);
      if (sandbox !== undefined && this.#bySandbox.ids(sandbox).size === 0) {
        this.#mixed.delete(sandbox);
      }
    }
    if (endpoint === undefined) {
      if (before !== undefined) this.#applySoon(sandboxOf(before));
      return;
    }
    this.#endpoints.set(id, endpoint);
    this.#bySandbox.add(sandboxOf(endpoint), id);
    this.#byInterface.set(endpoint.spec.interfaceName, id);
    this.#byEndpoint.set(endpoint.spec.endpoint, id);
    if (sandboxOf(before) !== sandboxOf(endpoint)) this.#applySoon(sandboxOf(endpoint));
  }

  setNetwork(id: string, network: DockerNetwork | undefined): void {
    if (network === undefined) this.#networks.delete(id);
    else this.#networks.set(id, network);
  }

  /** The peers of networks that use all pools have changed. */
  poolsChanged(): void {
    for (const sandbox of this.#bySandbox.keys()) this.#applySoon(sandbox);
  }

  /** The container's end of an interface is in its place and up. */
  linkIsUp(interfaceName: string): void {
    const endpoint = this.#endpoints.get(this.#byInterface.get(interfaceName) ?? '');
    if (endpoint !== undefined) this.#applySoon(sandboxOf(endpoint));
  }

  /** The container has, or had, other networks; its default route may not be ours. */
  isMixed(sandbox: string): void {
    this.#mixed.add(sandbox);
    this.#applySoon(sandbox);
  }

  /** The endpoint does not carry its container's default route. */
  leadsElsewhere(endpointId: string): void {
    const endpoint = this.endpoint(endpointId);
    const sandbox = endpoint === undefined ? undefined : sandboxOf(endpoint);
    if (sandbox !== undefined) this.isMixed(sandbox);
  }

  #applySoon(sandbox: string | undefined): void {
    if (sandbox === undefined) return;
    setImmediate(() => this.#apply(sandbox));
  }

  #apply(sandbox: string): void {
    const endpoints = [...this.#bySandbox.ids(sandbox)].toSorted().flatMap((id) => {
      const endpoint = this.#endpoints.get(id);
      return endpoint === undefined ? [] : [endpoint];
    });
    const isInternal = (one: WorkloadEndpoint) => this.#networkOf(one)?.internal === true;
    const internal = endpoints.filter(isInternal);
    const isPlain = !this.#mixed.has(sandbox) && endpoints.length <= 1 && internal.length === 0;
    if (isPlain) return;
    if (endpoints.length > 1) this.#mixed.add(sandbox);
    try {
      // Peers that several networks have go by the first of them. One that is not internal reaches all of them,
      // as the container has the tags of its internal networks there as well.
      const others = endpoints.filter((one) => !isInternal(one));
      const paths = [...others, ...internal].flatMap((endpoint) => this.#pathsOf(endpoint));
      applyContainerRoutes(this.#deps.libc, sandbox, paths);
    } catch (error) {
      if (isNamespaceGone(error)) return;
      this.#deps.log.warn('routes in a container could not be set', {
        container: endpoints[0]?.spec.workload,
        why: describe(error),
      });
    }
  }

  #pathsOf(endpoint: WorkloadEndpoint): readonly ContainerPath[] {
    const network = this.#networkOf(endpoint);
    if (network === undefined) return [];
    return (endpoint.spec.ipNetworks ?? []).flatMap((one) => {
      const { address } = splitCidr(one);
      const family = familyOf(address);
      const nextHop = family === 4 ? network.nextHop4 : network.nextHop6;
      if (nextHop === undefined) return [];
      const subnets = network.subnets.filter((subnet) => subnet.family === family);
      return [{ address, nextHop, peers: this.#peersOf(subnets) }];
    });
  }

  /** The subnets, or all pools of the family where the network has no subnet of its own. */
  #peersOf(subnets: readonly NetworkSubnet[]): readonly Cidr[] {
    const own = subnets.map(({ cidr }) => cidr);
    if (!own.some((cidr) => splitCidr(cidr).prefixLength === 0)) return own;
    const family = own[0] === undefined ? 4 : cidrFamily(own[0]);
    return [...this.#deps.mirror.list('IPPool').values()]
      .map(({ value }) => value)
      .filter((pool) => poolFamily(pool) === family && poolIsEnabled(pool))
      .map(({ spec }) => spec.cidr);
  }

  #networkOf(endpoint: WorkloadEndpoint): DockerNetwork | undefined {
    const id = endpoint.metadata.annotations?.[endpointAnnotations.network];
    return id === undefined ? undefined : this.#networks.get(id);
  }
}

function sandboxOf(endpoint: WorkloadEndpoint | undefined): string | undefined {
  return endpoint?.metadata.annotations?.[endpointAnnotations.sandbox];
}
