import type { BriefChange, EntryChange } from '../../cache/mirror.ts';
import type { Stored } from '../../cache/view.ts';
import {
  maxQueriesPerSecond,
  type AnswerDns,
  type ServedContainer,
} from '../../dataplane/container-dns.ts';
import { describe } from '../../errors/error.ts';
import { briefEndpoint, type BriefEndpoint } from '../../model/briefs.ts';
import { IdsByKey } from '../../model/ids-by-key.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import {
  annotation,
  endpointTitle,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { NameIndex } from '../../names/name-index.ts';
import { nameInLabels, namedEndpoint, networkNameOf } from '../../names/named-endpoint.ts';
import { respond } from '../../names/resolver.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { Kernel } from '../kernel.ts';
import type { HostEvent, Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import type { DomainSets } from './domain-sets.ts';
import { localEndpoint } from './local-endpoint.ts';
import { localNetwork } from './local-network.ts';

type ContainerNamesKind = 'WorkloadEndpoint' | 'DockerNetwork';

export interface ContainerNamesDeps extends Pick<ManagerDeps, 'node' | 'log' | 'resolvesNames'> {
  readonly mirror: {
    readonly cachedInBrief: (
      kind: 'WorkloadEndpoint',
    ) => ReadonlyMap<string, Stored<BriefEndpoint>>;
  };
  readonly kernel: Pick<Kernel, 'openContainerDns'>;
  readonly domains: Pick<DomainSets, 'hasDomains' | 'respond' | 'onFirst'>;
}

/** Time between attempts for a container whose queries cannot be received. */
const retryMs = 30_000;
/** Containers served in one step; the daemon's start must not hold the event loop. */
const maxPerStep = 16;

/**
 * Names of containers on other hosts. Docker's name server knows only its own host, so DNS queries of a container are
 * received here once another host has a container on one of its networks, or a network set has domain names, and all
 * others are forwarded to Docker. A
 * container is served until it leaves its last network.
 */
export class ContainerNames implements Manager<ContainerNamesKind> {
  readonly name = 'names across hosts';
  readonly kinds = ['WorkloadEndpoint', 'DockerNetwork'] as const;
  readonly #deps: ContainerNamesDeps;
  readonly #index: NameIndex;
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
  readonly #bySandbox = new IdsByKey();
  readonly #byInterface = new IdsByKey();
  readonly #byNetwork = new IdsByKey();
  /** Names of the networks of this host, by Docker's ID. */
  readonly #networks = new Map<string, string>();
  #networkNames: ReadonlySet<string> = new Set();
  readonly #served = new Map<string, ServedContainer>();
  /** Containers that may have to be served. */
  readonly #waiting = new Set<string>();
  /** Containers whose queries cannot be received, with the reason and the time of the attempt. */
  readonly #failed = new Map<string, { readonly why: string; readonly at: number }>();

  constructor(deps: ContainerNamesDeps) {
    this.#deps = deps;
    this.#index = new NameIndex(deps.node);
    deps.domains.onFirst = () => this.resync();
  }

  onChange(change: EntryChange<ContainerNamesKind>): void {
    if (!this.#deps.resolvesNames) return;
    if (change.kind === 'DockerNetwork') {
      const network = localNetwork(this.#deps.node, change);
      if (network !== undefined) this.#setNetwork(network.id, network.now);
      return;
    }
    this.#setLocal(change.id, localEndpoint(this.#deps.node, change));
    const now = change.now?.value;
    this.#setNamed(change.id, now && briefEndpoint(now));
  }

  onBrief(change: BriefChange): void {
    if (!this.#deps.resolvesNames || change.kind !== 'WorkloadEndpoint') return;
    this.#setNamed(change.id, change.brief);
  }

  /** On Docker up to 27, a container has its network namespace only now, shortly before its process starts. */
  onEvent(event: HostEvent): boolean {
    if (event.kind === 'link' && event.link.hasCarrier && !event.isGone) {
      for (const id of this.#byInterface.ids(event.link.name)) {
        const sandbox = sandboxOf(this.#endpoints.get(id));
        if (sandbox === undefined) continue;
        this.#waiting.delete(sandbox);
        this.#serve(sandbox);
      }
    }
    return false;
  }

  resync(): void {
    for (const sandbox of this.#bySandbox.keys()) this.#changed(sandbox);
  }

  poll(): boolean {
    const dueAt = Date.now() - retryMs;
    for (const [sandbox, { at }] of this.#failed) if (at <= dueAt) this.#changed(sandbox);
    this.#step();
    return false;
  }

  /** Join waits for the round, so a container is served before it starts if it has its namespace already. */
  apply(phase: string): void {
    if (phase === 'routes') this.#step();
  }

  /** Queries reach Docker from now on, so that none is lost when the process ends. */
  stop(): void {
    for (const served of this.#served.values()) void served.endRedirect();
  }

  checks(): readonly Check[] {
    const [first] = this.#failed;
    if (first === undefined) return [];
    const [sandbox, { why }] = first;
    const others = this.#failed.size === 1 ? '' : ` and ${this.#failed.size - 1} more`;
    return [
      {
        name: this.name,
        ok: false,
        detail: `container ${this.#titleOf(sandbox)}${others} cannot resolve names of other hosts: ${why}`,
        remedy:
          'The daemon retries automatically; Docker resolves names of this host meanwhile. A kernel before Linux 5.12 must be updated; to do without names of other hosts, set CALICO_NAMES_ACROSS_HOSTS=false.',
      },
    ];
  }

  #setLocal(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#endpoints.get(id);
    if (before !== undefined) {
      this.#bySandbox.remove(sandboxOf(before), id);
      this.#byInterface.remove(before.spec.interfaceName, id);
      this.#byNetwork.remove(networkNameOf(before.metadata.labels ?? {}), id);
      this.#endpoints.delete(id);
    }
    if (endpoint !== undefined) {
      this.#endpoints.set(id, endpoint);
      this.#bySandbox.add(sandboxOf(endpoint), id);
      this.#byInterface.add(endpoint.spec.interfaceName, id);
      this.#byNetwork.add(networkNameOf(endpoint.metadata.labels ?? {}), id);
    }
    this.#changed(sandboxOf(before));
    this.#changed(sandboxOf(endpoint));
  }

  #setNetwork(id: string, network: DockerNetwork | undefined): void {
    const name = network?.name === undefined ? undefined : nameInLabels(network.name);
    const before = this.#networks.get(id);
    if (name === before) return;
    if (name === undefined) this.#networks.delete(id);
    else this.#networks.set(id, name);
    this.#networkNames = new Set(this.#networks.values());
    const { mirror } = this.#deps;
    for (const [endpoint, { value }] of mirror.cachedInBrief('WorkloadEndpoint')) {
      const network = networkNameOf(value.labels);
      if (network !== undefined && (network === name || network === before)) {
        this.#setNamed(endpoint, value);
      }
    }
  }

  /** Sets an endpoint of any host. Those of other hosts on networks that this host does not have are not kept. */
  #setNamed(id: string, endpoint: BriefEndpoint | undefined): void {
    const named = endpoint && namedEndpoint(endpoint);
    const isHere = named?.node === this.#deps.node;
    if (named === undefined || !(isHere || this.#networkNames.has(named.network))) {
      return this.#index.set(id, undefined);
    }
    const hadRemote = this.#index.hasRemote(named.network);
    this.#index.set(id, named);
    if (hadRemote || !this.#index.hasRemote(named.network)) return;
    for (const local of this.#byNetwork.ids(named.network)) {
      this.#changed(sandboxOf(this.#endpoints.get(local)));
    }
  }

  #changed(sandbox: string | undefined): void {
    if (sandbox !== undefined) this.#waiting.add(sandbox);
  }

  #step(): void {
    let left = maxPerStep;
    for (const sandbox of this.#waiting) {
      if (left-- === 0) return void setImmediate(() => this.#step());
      this.#waiting.delete(sandbox);
      this.#serve(sandbox);
    }
  }

  /** Receives the queries of a container if another host is on one of its networks; ends if it has none any more. */
  #serve(sandbox: string): void {
    const served = this.#served.get(sandbox);
    const isHere = this.#bySandbox.size(sandbox) > 0;
    if (served !== undefined && isHere && served.isCurrent()) return;
    served?.close();
    this.#served.delete(sandbox);
    const hasRemote = this.#networksOf(sandbox).some((network) => this.#index.hasRemote(network));
    const isNeeded = isHere && (hasRemote || this.#deps.domains.hasDomains);
    if (!isNeeded) return void this.#failed.delete(sandbox);
    try {
      const opened = this.#deps.kernel.openContainerDns(
        sandbox,
        (query, transport) => this.#respond(sandbox, query, transport),
        () => this.#flooded(sandbox),
      );
      if (opened !== undefined) this.#served.set(sandbox, opened);
      this.#failed.delete(sandbox);
    } catch (error) {
      this.#failure(sandbox, describe(error));
    }
  }

  /** A query that cannot be answered is left to Docker, whatever is in it. */
  #respond(sandbox: string, query: Buffer, transport: 'udp' | 'tcp'): ReturnType<AnswerDns> {
    const { node, domains } = this.#deps;
    const asker = { node, networks: this.#networksOf(sandbox) };
    try {
      const response = respond(this.#index, asker, { query, transport, random: Math.random });
      return response ?? domains.respond(query, transport, sandbox);
    } catch (error) {
      this.#deps.log.error('DNS query failed', { why: describe(error) });
      return undefined;
    }
  }

  /** Leaves a container that sends too many queries to Docker for some time. */
  #flooded(sandbox: string): void {
    this.#served.get(sandbox)?.close();
    this.#served.delete(sandbox);
    this.#failure(sandbox, `more than ${maxQueriesPerSecond} DNS queries in a second`);
  }

  #failure(sandbox: string, why: string): void {
    const isNew = !this.#failed.has(sandbox);
    this.#failed.set(sandbox, { why, at: Date.now() });
    if (!isNew) return;
    this.#deps.log.warn('receiving DNS queries of container failed, retrying', {
      container: this.#titleOf(sandbox),
      why,
    });
  }

  #titleOf(sandbox: string): string {
    const [id = ''] = this.#bySandbox.ids(sandbox);
    const endpoint = this.#endpoints.get(id);
    return endpoint === undefined ? sandbox : endpointTitle(endpoint);
  }

  #networksOf(sandbox: string): readonly string[] {
    const names = [...this.#bySandbox.ids(sandbox)].flatMap(
      (id) => networkNameOf(this.#endpoints.get(id)?.metadata.labels ?? {}) ?? [],
    );
    return names.toSorted();
  }
}

function sandboxOf(endpoint: WorkloadEndpoint | undefined): string | undefined {
  return endpoint && annotation(endpoint, 'sandbox');
}
