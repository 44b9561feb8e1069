import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import { AddressSets } from '../dataplane/address-sets.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import { IptablesTables } from '../dataplane/iptables/tables.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import { findLink } from '../dataplane/netlink/link.ts';
import { Routes } from '../dataplane/routes.ts';
import type { EntryChanges } from '../cache/mirror.ts';
import { CalicoError, describe } from '../errors/error.ts';
import type { IpFamily } from '../ip/address.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { PolicyEngine } from '../profiles/policy-engine.ts';
import { ApplyFailures } from './apply-failures.ts';
import type { AgentDeps } from './agent-deps.ts';
import { ContainerPaths } from './managers/container-paths.ts';
import { DropCounters } from './managers/drop-counters.ts';
import { EndpointRoutes, hasOwnInterface } from './managers/endpoint-routes.ts';
import { FlowEnder } from './managers/flow-ender.ts';
import { inheritedFlowsEnder } from './managers/inherited-flows.ts';
import { FirewallWatch } from './firewall-watch.ts';
import { GuardedIpv6Forwarding } from './managers/ipv6-forwarding.ts';
import { NatMembers } from './managers/nat-members.ts';
import { createPolicySink, wantStaticRules } from './managers/policy-sink.ts';
import { PublishedPorts } from './managers/published-ports.ts';

/** How the agent is. */
export interface AgentHealth {
  /** Since when the kernel holds what the datastore says, but for `failures`; `undefined` while it does not. */
  readonly inSyncSince: Date | undefined;
  /** What the kernel refused, item by item. */
  readonly failures: readonly ApplyFailure[];
  readonly lastError: { readonly at: Date; readonly what: string } | undefined;
  readonly rounds: number;
  readonly tableTransactions: number;
}

const idleMs = 60_000;
/** The kernel tells nobody of changes in address sets and legacy tables, so it is looked at. */
const lookMs = 500;
/** What a look cannot see is found by reading everything. */
const resyncMs = 600_000;
const programmedMs = 8000;
/** Longer than any round takes: its tools are given up after 30 s each. */
const longestRoundMs = 300_000;
const longestLookMs = 120_000;

/**
 * Makes this host's kernel hold what the datastore says. Changes are taken as they come; one round at a time
 * writes what differs, in the order that leaves no gap: sets and members, chains, what goes, then routes.
 */
export class Agent {
  readonly engine: PolicyEngine;
  readonly sets: AddressSets;
  readonly routes: Routes;
  readonly #deps: AgentDeps;
  readonly #tables: ReadonlyMap<IpFamily, IptablesTables>;
  readonly #nat: NatMembers;
  readonly #endpointRoutes: EndpointRoutes;
  readonly #watch: FirewallWatch;
  readonly #forwarding: GuardedIpv6Forwarding;
  readonly containers: ContainerPaths;
  readonly counters: DropCounters;
  readonly ports: PublishedPorts;
  readonly #flows: FlowEnder;
  readonly #failures: ApplyFailures;
  readonly #rounding: Work;
  readonly #listening: Work;
  readonly #waiters = new Waiters();
  #seen = 0n;
  #applied = -1n;
  #wanted = false;
  #running = false;
  #mustResync = true;
  #inSyncSince: Date | undefined;
  #lastError: AgentHealth['lastError'];
  #rounds = 0;
  #tableTransactions = 0;
  #signal = AbortSignal.abort();

  constructor(deps: AgentDeps) {
    this.#deps = deps;
    const { families, firewall, runner, sockets, node, supervisor } = deps;
    this.#rounding = supervisor.work('kernel rounds', { mostSilentMs: longestRoundMs });
    this.#listening = supervisor.work('kernel events');
    const { backend } = firewall;
    this.sets = new AddressSets(sockets.ipset);
    this.#tables = new Map(
      families.map((family) => [family, new IptablesTables(runner, { family, backend })]),
    );
    this.routes = new Routes(sockets.rtnetlink, inheritedFlowsEnder(sockets.netfilter));
    this.engine = new PolicyEngine({
      node,
      families,
      output: createPolicySink(this.#tables, this.sets),
    });
    this.counters = new DropCounters(
      this.sets,
      (name) => this.containers.hasInterface(name) || this.routes.link(name) !== undefined,
    );
    this.#nat = new NatMembers(this.sets, families);
    this.#endpointRoutes = new EndpointRoutes(this.routes, families);
    this.containers = new ContainerPaths({ ...deps, libc: sockets.libc });
    this.ports = new PublishedPorts({ ...deps, ...sockets, tables: this.#tables });
    const { netfilter } = sockets;
    this.#failures = new ApplyFailures(deps.log);
    this.#flows = new FlowEnder({ ...deps, netfilter, engine: this.engine });
    this.#watch = new FirewallWatch({ ...sockets, backend, families });
    this.#forwarding = new GuardedIpv6Forwarding({
      tables: this.#tables.get(6),
      forwarding: deps.ipv6Forwarding,
      log: deps.log,
    });
  }

  /** Follows datastore and kernel until the signal is aborted; nothing is written before the first listing. */
  start(signal: AbortSignal): void {
    this.#signal = signal;
    this.#wantStatic();
    const stop = this.#deps.mirror.subscribe((changes) => this.#take(changes));
    signal.addEventListener('abort', stop, { once: true });
    const { supervisor } = this.#deps;
    const looking = supervisor.work('kernel checks', { mostSilentMs: longestLookMs });
    void supervisor.keep(looking, () => this.#lookNowAndThen(looking, signal), signal);
  }

  /** What the kernel told. An event that cannot be taken costs a reading of everything, and not the others. */
  onKernelEvents(events: readonly KernelEvent[]): void {
    let isRelevant = false;
    for (const event of events) {
      this.#listening.guard(
        () => (isRelevant = this.#takeEvent(event) || isRelevant),
        () => (isRelevant = this.#mustResync = true),
      );
    }
    if (isRelevant) this.#kick();
  }

  /** Answers whether there may be something to write. */
  #takeEvent(event: KernelEvent): boolean {
    if (event.kind === 'overrun') return (this.#mustResync = true);
    if (event.kind === 'routeGone') return this.routes.routeGone(event.route);
    if (event.kind === 'routeReplaced') return this.routes.routeReplaced(event.route);
    if (event.kind === 'nftables') {
      if (!this.#running && this.#watch.hasChanged()) this.#firewallChanged();
      return false;
    }
    const { link, isGone } = event;
    this.routes.linkChanged(link.name, isGone ? undefined : link);
    if (link.hasCarrier && !isGone) this.containers.linkIsUp(link.name);
    if (isGone) this.counters.sweepSoon();
    else this.#forwarding.linkChanged(link.name);
    return link.name.startsWith('cali') || link.name === 'lo';
  }

  #resync(): void {
    this.#mustResync = true;
    this.#kick();
  }

  #firewallChanged(): void {
    for (const tables of this.#tables.values()) tables.invalidate();
    this.#kick();
  }

  /** Told after an interface was made, so that its routes need not wait for the kernel's notification. */
  linkMade(name: string, { hasIpv6 }: { readonly hasIpv6: boolean }): void {
    if (hasIpv6) this.#forwarding.want();
    const link = findLink(this.#deps.sockets.rtnetlink, name);
    if (link !== undefined) this.routes.linkChanged(name, link);
    this.ports.linkMade(name);
    this.#kick();
  }

  /**
   * Resolves when the kernel has acknowledged what the datastore said of an endpoint at a revision: its policy
   * and its routes. Throws `kernel/not-programmed` if it takes too long.
   */
  async programmed(endpointId: string, revision: bigint, signal: AbortSignal): Promise<void> {
    const isMet = () => {
      const endpoint = this.containers.endpoint(endpointId);
      return this.#applied >= revision && (endpoint === undefined || this.isProgrammed(endpoint));
    };
    if (isMet()) return;
    this.#kick();
    try {
      await this.#waiters.until(isMet, withDeadline(signal, programmedMs));
    } catch (error) {
      const late = this.#seen < revision ? 'the datastore has not told of it yet' : undefined;
      const networks = this.containers.endpoint(endpointId)?.spec.ipNetworks ?? [];
      const refused = this.#failures.about(networks);
      const why = late ?? refused ?? this.#lastError?.what ?? 'it takes too long';
      throw new CalicoError(
        'kernel/not-programmed',
        { endpoint: endpointId, why },
        { cause: error },
      );
    }
  }

  /** Whether the kernel routes to an endpoint of this host. */
  isRouted(endpoint: WorkloadEndpoint): boolean {
    return this.#endpointRoutes.isRouted(endpoint);
  }

  /** Whether the kernel routes to an endpoint of this host and knows its policy. */
  isProgrammed(endpoint: WorkloadEndpoint): boolean {
    const isHeld = (set: string, member: string) => this.sets.holds(set, member);
    return this.isRouted(endpoint) && this.engine.isPlaced(endpoint, isHeld);
  }

  get health(): AgentHealth {
    return {
      inSyncSince: this.#inSyncSince,
      failures: this.#failures.all(),
      lastError: this.#lastError,
      rounds: this.#rounds,
      tableTransactions: this.#tableTransactions,
    };
  }

  #wantStatic(): void {
    wantStaticRules(this.#tables, this.#deps.statics);
    this.#forwarding.start();
    this.engine.start();
    this.#nat.start();
    this.ports.start();
  }

  #take({ revision, changes }: EntryChanges): void {
    const { node } = this.#deps;
    for (const change of changes) {
      const { id } = change;
      switch (change.kind) {
        case 'Profile':
          this.engine.setProfile(id, change.now?.value);
          if (this.#deps.endsForbiddenFlows) this.#flows.look();
          break;
        case 'NetworkSet':
        case 'GlobalNetworkSet':
          this.engine.setNetworkSet(`${change.kind} ${id}`, change.now?.value);
          if (this.#deps.endsForbiddenFlows) this.#flows.look();
          break;
        case 'WorkloadEndpoint': {
          const now = change.now?.value;
          const ofHost = now?.spec.node === node ? now : undefined;
          const local = hasOwnInterface(ofHost) ? ofHost : undefined;
          this.engine.setEndpoint(id, now);
          this.#nat.setEndpoint(id, local);
          this.ports.setEndpoint(id, local);
          this.#flows.setEndpoint(change.before?.value, local);
          this.#endpointRoutes.setEndpoint(id, ofHost);
          this.containers.setEndpoint(id, local);
          if (local === undefined) this.counters.sweepSoon();
          break;
        }
        case 'IPPool':
          this.#nat.setPool(id, change.now?.value);
          this.containers.allChanged();
          break;
        case 'DockerNetwork': {
          const local = change.now?.value.node === node ? change.now.value : undefined;
          const networkId = id.slice(id.indexOf('/') + 1);
          if (id.startsWith(`${node}/`)) {
            this.#endpointRoutes.setNetwork(networkId, local);
            this.containers.setNetwork(networkId, local);
          }
          break;
        }
        default:
          break;
      }
    }
    this.#seen = revision;
    this.#kick();
  }

  #kick(): void {
    this.#wanted = true;
    if (this.#running || this.#signal.aborted || !this.#deps.mirror.inSync) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    let delays = backoffMs(100, 5000);
    while (this.#wanted && !this.#signal.aborted) {
      this.#wanted = false;
      this.#rounding.turned();
      try {
        await this.#round();
        this.#rounding.succeeded();
        delays = backoffMs(100, 5000);
      } catch (error) {
        this.#failed(this.#rounding, error);
        this.#wanted = true;
        await pause(delays.next().value, this.#signal);
      }
    }
    this.#running = false;
    this.#rounding.rests();
    // What was notified during the last round may have been somebody else's.
    this.#listening.guard(
      () => {
        if (this.#watch.hasChanged()) this.#firewallChanged();
      },
      () => this.#resync(),
    );
  }

  async #round(): Promise<void> {
    this.#rounds++;
    if (this.#mustResync) {
      this.sets.resync();
      this.routes.resync();
      this.containers.allChanged();
      for (const tables of this.#tables.values()) tables.invalidate();
      this.#mustResync = false;
    }
    const families = [...this.#tables.values()];
    const losses = countLosses(families);
    if (families.some(({ isKnown }) => !isKnown)) this.#watch.beforeRead();
    await Promise.all(families.map((tables) => tables.prepare(this.#signal)));
    if (countLosses(families) > losses) this.#flows.look();
    const revision = this.#seen;
    // What is written is decided here, in one step; changes that arrive while it is written are the next round's.
    const { recovered } = this.sets;
    this.sets.applyAdditions();
    if (this.sets.recovered > recovered) for (const tables of families) tables.retryRefused();
    if (this.engine.setFaults(this.sets.faults())) this.sets.applyAdditions();
    const applied = await Promise.all(families.map((tables) => tables.write(this.#signal)));
    const transactions = applied.reduce((sum, one) => sum + one.transactions, 0);
    this.#tableTransactions += transactions;
    this.#watch.afterWrite(transactions);
    const attempt = (what: string, step: () => void) => this.#failures.attempt(what, step);
    attempt('IPv6 forwarding', () => this.#forwarding.apply());
    // A former owner of an address is no member any more when the address is routed to the next one.
    this.sets.applyRemovals();
    this.routes.apply();
    attempt('published ports', () => this.ports.finish());
    attempt('end of flows that no rule allows', () => this.#flows.endForbidden());
    const { sets, routes, ports } = this;
    this.#failures.finish(
      [sets, ...families, routes, this.#endpointRoutes, ports].flatMap((driver) =>
        driver.failures(),
      ),
    );
    this.#applied = revision;
    this.#inSyncSince ??= new Date();
    this.#waiters.settle();
  }

  #failed(work: Work, error: unknown): void {
    this.#inSyncSince = undefined;
    this.#lastError = { at: new Date(), what: describe(error) };
    work.failed(error);
    this.#mustResync = true;
  }

  /**
   * Finds what others changed and the kernel does not tell of, or told while nobody listened. Chains of policies that
   * no container has any more are removed here as well, when nothing else is to be done.
   */
  async #lookNowAndThen(work: Work, signal: AbortSignal): Promise<void> {
    let [readAt, idleAt] = [Date.now(), Date.now()];
    while (!signal.aborted) {
      work.turned();
      await pause(lookMs, signal);
      if (this.#running || signal.aborted || !this.#deps.mirror.inSync) continue;
      if (Date.now() - readAt > resyncMs) {
        readAt = Date.now();
        for (const tables of this.#tables.values()) tables.retryRefused();
        this.#resync();
        continue;
      }
      try {
        if (Date.now() - idleAt > idleMs && this.engine.hasIdle) {
          idleAt = Date.now();
          this.engine.dropIdle();
          this.#kick();
        }
        const retried = [this.sets, this.routes, this.ports, this.#failures];
        const hasDue = retried.some((one) => one.hasDue);
        if (this.sets.recheck() || hasDue) this.#kick();
        this.containers.retry();
        if (this.#inSyncSince !== undefined && this.counters.look()) this.#kick();
        if (this.#watch.mustRead || this.#watch.hasChanged()) this.#firewallChanged();
        work.succeeded();
      } catch (error) {
        this.#failed(work, error);
        this.#kick();
      }
    }
  }
}

function countLosses(families: readonly IptablesTables[]): number {
  return families.reduce((sum, tables) => sum + tables.losses, 0);
}
