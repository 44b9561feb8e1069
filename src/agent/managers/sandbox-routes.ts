import type { EntryChange } from '../../cache/mirror.ts';
import type { SandboxInterface } from '../../dataplane/routes/container-routes.ts';
import { describe } from '../../errors/error.ts';
import { familyOf } from '../../ip/address.ts';
import { cidrFamily, splitCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork, NetworkSubnet } from '../../model/kinds/docker-network.ts';
import { IdsByKey } from '../../model/ids-by-key.ts';
import { poolFamily, poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import {
  dockerAddresses,
  endpointAddresses,
  endpointAnnotations,
  endpointTitle,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { Kernel } from '../kernel.ts';
import type { HostEvent, Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import { localEndpoint } from './local-endpoint.ts';
import { localNetwork } from './local-network.ts';

type SandboxRoutesKind = 'WorkloadEndpoint' | 'IPPool' | 'DockerNetwork';

export interface SandboxRoutesDeps extends Pick<ManagerDeps, 'node' | 'log'> {
  readonly kernel: Pick<Kernel, 'applyContainerRoutes'>;
}

/**
 * The routes inside containers that Docker's response to Join cannot express: on several networks the default route
 * belongs to one of them, and an internal network has none.
 *
 * The routes of a container follow from its local endpoints and from the interfaces in its network namespace. Docker
 * is not queried, because its API lags behind its actions.
 */
export class SandboxRoutes implements Manager<SandboxRoutesKind> {
  readonly name = 'routes in containers';
  readonly kinds = ['WorkloadEndpoint', 'IPPool', 'DockerNetwork'] as const;
  readonly #deps: SandboxRoutesDeps;
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
  readonly #networks = new Map<string, DockerNetwork>();
  readonly #pools = new Map<string, IpPool>();
  readonly #bySandbox = new IdsByKey();
  readonly #byInterface = new IdsByKey();
  readonly #byEndpoint = new IdsByKey();
  /** Containers scheduled for a check. */
  readonly #waiting = new Set<string>();
  /** Containers whose routes could not be set, with the reason and the number of failures in a row. */
  readonly #failed = new Map<string, { readonly why: string; readonly times: number }>();

  constructor(deps: SandboxRoutesDeps) {
    this.#deps = deps;
  }

  onChange(change: EntryChange<SandboxRoutesKind>): void {
    if (change.kind === 'WorkloadEndpoint') {
      this.setEndpoint(change.id, localEndpoint(this.#deps.node, change));
    } else if (change.kind === 'IPPool') {
      this.setPool(change.id, change.now?.value);
    } else {
      const network = localNetwork(this.#deps.node, change);
      if (network !== undefined) this.setNetwork(network.id, network.now);
    }
  }

  onEvent(event: HostEvent): boolean {
    if (event.kind === 'link' && event.link.hasCarrier && !event.isGone) {
      this.#linkIsUp(event.link.name);
    }
    return false;
  }

  /** Checks all containers, because an event was lost. */
  resync(): void {
    this.#allChanged();
  }

  /** Retries the containers whose routes could not be set. */
  poll(): boolean {
    for (const sandbox of this.#failed.keys()) this.changed(sandbox);
    return false;
  }

  /** Returns the local endpoint of a Docker endpoint ID. */
  endpoint(endpointId: string): WorkloadEndpoint | undefined {
    const [id] = [...this.#byEndpoint.ids(endpointId)].toSorted();
    return id === undefined ? undefined : this.#endpoints.get(id);
  }

  /** Reports whether a local endpoint has the interface. */
  hasInterface(name: string): boolean {
    return this.#byInterface.ids(name).size > 0;
  }

  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#endpoints.get(id);
    if (before !== undefined) {
      this.#bySandbox.remove(sandboxOf(before), id);
      this.#byInterface.remove(before.spec.interfaceName, id);
      this.#byEndpoint.remove(before.spec.endpoint, id);
      this.#endpoints.delete(id);
    }
    if (endpoint !== undefined) {
      this.#endpoints.set(id, endpoint);
      this.#bySandbox.add(sandboxOf(endpoint), id);
      this.#byInterface.add(endpoint.spec.interfaceName, id);
      this.#byEndpoint.add(endpoint.spec.endpoint, id);
    }
    const [left, entered] = [sandboxOf(before), sandboxOf(endpoint)];
    if (left === entered) return;
    this.changed(left);
    this.changed(entered);
  }

  setNetwork(id: string, network: DockerNetwork | undefined): void {
    if (network === undefined) this.#networks.delete(id);
    else this.#networks.set(id, network);
  }

  /** Sets the current state of a pool; the peers of containers may change. */
  setPool(name: string, pool: IpPool | undefined): void {
    if (pool === undefined) this.#pools.delete(name);
    else this.#pools.set(name, pool);
    this.#allChanged();
  }

  /** The container's end of an interface is in its sandbox and up. */
  #linkIsUp(interfaceName: string): void {
    for (const id of this.#byInterface.ids(interfaceName)) {
      this.changed(sandboxOf(this.#endpoints.get(id)));
    }
  }

  /** Docker moved the default route of an endpoint's container, or may have. */
  gatewayChanged(endpointId: string): void {
    this.changed(sandboxOf(this.endpoint(endpointId)));
  }

  /** Schedules a check of a container whose interfaces or routes may have changed. */
  changed(sandbox: string | undefined): void {
    if (sandbox === undefined || this.#waiting.has(sandbox)) return;
    this.#waiting.add(sandbox);
    setImmediate(() => {
      this.#waiting.delete(sandbox);
      this.#apply(sandbox);
    });
  }

  #allChanged(): void {
    for (const sandbox of this.#bySandbox.keys()) this.changed(sandbox);
  }

  /** Reports the containers whose routes are incomplete, and why. */
  checks(): readonly Check[] {
    return [...this.#failed].map(([sandbox, { why }]) => {
      const [endpoint] = this.#endpointsIn(sandbox);
      return {
        name: `container ${endpoint === undefined ? sandbox : endpointTitle(endpoint)}`,
        ok: false,
        detail: `routes in the container could not be set: ${why}`,
        remedy:
          'The daemon retries automatically. If the problem persists, reconnect the container to its networks.',
      };
    });
  }

  #apply(sandbox: string): void {
    const endpoints = this.#endpointsIn(sandbox);
    const why = this.#failureOf(sandbox, endpoints);
    if (why === undefined) {
      this.#failed.delete(sandbox);
      return;
    }
    const times = (this.#failed.get(sandbox)?.times ?? 0) + 1;
    this.#failed.set(sandbox, { why, times });
    // A single failure can be an interface that Docker is removing.
    if (times !== 2) return;
    const [endpoint] = endpoints;
    this.#deps.log.warn('setting routes in container failed, retrying', {
      container: endpoint && endpointTitle(endpoint),
      why,
    });
  }

  /** Sets all routes that can be set; returns the first failure. */
  #failureOf(sandbox: string, endpoints: readonly WorkloadEndpoint[]): string | undefined {
    const isInternal = (one: WorkloadEndpoint) => this.#networkOf(one)?.internal === true;
    const internal = endpoints.filter(isInternal);
    // Peers of several networks use the first of them. A network that is not internal reaches all of them, because the
    // container has the tags of its internal networks there too.
    const others = endpoints.filter((one) => !isInternal(one));
    const paths = [...others, ...internal].flatMap((endpoint) => this.#pathsOf(endpoint));
    const isPlain = endpoints.length <= 1 && internal.length === 0;
    try {
      return this.#deps.kernel.applyContainerRoutes(sandbox, { paths, isPlain })[0]?.why;
    } catch (error) {
      return describe(error);
    }
  }

  #endpointsIn(sandbox: string): readonly WorkloadEndpoint[] {
    return [...this.#bySandbox.ids(sandbox)].toSorted().flatMap((id) => {
      const endpoint = this.#endpoints.get(id);
      return endpoint === undefined ? [] : [endpoint];
    });
  }

  #pathsOf(endpoint: WorkloadEndpoint): readonly SandboxInterface[] {
    const network = this.#networkOf(endpoint);
    if (network === undefined) return [];
    const docker = dockerAddresses(endpoint);
    return endpointAddresses(endpoint).flatMap((address) => {
      const family = familyOf(address);
      const nextHop = family === 4 ? network.nextHop4 : network.nextHop6;
      if (nextHop === undefined) return [];
      const subnets = network.subnets.filter((subnet) => subnet.family === family);
      const shownBy = docker.find((one) => familyOf(one) === family) ?? address;
      return [{ address, shownBy, nextHop, peers: this.#peersOf(subnets) }];
    });
  }

  /** Returns the subnets, or all pools of the family if the network has no subnet of its own. */
  #peersOf(subnets: readonly NetworkSubnet[]): readonly Cidr[] {
    const own = subnets.map(({ cidr }) => cidr);
    if (!own.some((cidr) => splitCidr(cidr).prefixLength === 0)) return own;
    const family = own[0] === undefined ? 4 : cidrFamily(own[0]);
    return [...this.#pools.values()]
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
