import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import type { EntryChanges } from '../cache/mirror.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import { CalicoError, describe } from '../errors/error.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import { endpointPrefixes, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { AgentDeps } from './agent-deps.ts';
import { ApplyFailures } from './apply-failures.ts';
import { phases, type HostEvent, type Manager, type Participant, type Phase } from './manager.ts';
import { createManagers, type Managers } from './managers.ts';
import type { BgpListener } from './managers/bgp-guard.ts';
import type { BgpState } from '../routing/bgp/bgp-state.ts';

/** State of the agent. */
export interface AgentHealth {
  /** Since when the kernel has matched the datastore, except for `failures`; `undefined` while it does not. */
  readonly inSyncSince: Date | undefined;
  /** Items that the kernel rejected. */
  readonly failures: readonly ApplyFailure[];
  readonly lastError: { readonly at: Date; readonly what: string } | undefined;
  readonly rounds: number;
  readonly tableTransactions: number;
}

/** The kernel does not report changes of address sets and legacy tables, so they are polled. */
const pollMs = 500;
/** A resync finds changes that a poll cannot see. */
const resyncMs = 600_000;
const programmedMs = 8000;
/** How long an answer of a name server may be held back. */
const nameServerMs = 3000;
/** Longer than any apply round: its tools time out after 30 s each. */
const longestRoundMs = 300_000;
const longestPollMs = 120_000;

/**
 * Keeps this host's kernel in sync with the datastore. Managers receive changes and set desired state in the drivers;
 * one apply round at a time writes the delta, phase by phase.
 */
export class Agent {
  readonly managers: Managers;
  readonly #deps: AgentDeps;
  /** The drivers first, then the managers, which react to what the drivers wrote. */
  readonly #participants: readonly Participant[];
  readonly #byKind: ReadonlyMap<EntryKind, readonly Manager[]>;
  readonly #failures: ApplyFailures;
  readonly #applying: Work;
  readonly #listening: Work;
  readonly #waiters = new Waiters();
  #seen = 0n;
  #applied = -1n;
  #isRequested = false;
  #running = false;
  #mustResync = true;
  #inSyncSince: Date | undefined;
  #lastError: AgentHealth['lastError'];
  #rounds = 0;
  #signal = AbortSignal.abort();

  constructor(deps: AgentDeps) {
    this.#deps = deps;
    const { supervisor } = deps;
    this.#applying = supervisor.work('dataplane apply', { maxSilentMs: longestRoundMs });
    this.#listening = supervisor.work('dataplane events');
    this.#failures = new ApplyFailures(deps.log);
    const programmed = () =>
      this.nextRound(AbortSignal.any([this.#signal, AbortSignal.timeout(nameServerMs)]));
    this.managers = createManagers({ ...deps, kernel: deps.drivers.kernel, programmed });
    this.#participants = [...deps.drivers.all, ...this.managers.all];
    this.#byKind = managersByKind(this.managers.all);
  }

  /** Follows the datastore and the kernel until the signal is aborted; writes nothing before the first listing. */
  start(signal: AbortSignal): void {
    this.#signal = signal;
    for (const manager of this.managers.all) manager.start?.();
    const stop = this.#deps.mirror.subscribe((changes) => this.#take(changes));
    signal.addEventListener('abort', stop, { once: true });
    const stopManagers = () => {
      for (const manager of this.managers.all) this.#listening.guard(() => manager.stop?.());
    };
    signal.addEventListener('abort', stopManagers, { once: true });
    const { supervisor } = this.#deps;
    const polling = supervisor.work('dataplane poll', { maxSilentMs: longestPollMs });
    void supervisor.keep(polling, () => this.#pollPeriodically(polling, signal), signal);
  }

  /** Handles kernel events. An event whose handler fails causes a resync and does not affect the other events. */
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

  /** Called after an interface was created, so that its routes need not wait for the kernel's notification. */
  linkMade(name: string, { hasIpv6 }: { readonly hasIpv6: boolean }): void {
    if (this.#takeEvent({ kind: 'linkMade', name, hasIpv6 })) this.#kick();
  }

  /**
   * Resolves when the kernel has the policy and the routes of an endpoint as of a datastore revision. Throws
   * `kernel/not-programmed` if it takes too long.
   */
  async programmed(endpointId: string, revision: bigint, signal: AbortSignal): Promise<void> {
    const { containers } = this.managers;
    const isMet = () => {
      const endpoint = containers.endpoint(endpointId);
      return this.#applied >= revision && (endpoint === undefined || this.isProgrammed(endpoint));
    };
    if (isMet()) return;
    this.#kick();
    try {
      await this.#waiters.until(isMet, withDeadline(signal, programmedMs));
    } catch (error) {
      const late = this.#seen < revision ? 'the datastore has not told of it yet' : undefined;
      const endpoint = containers.endpoint(endpointId);
      const networks = [...(endpoint?.spec.ipNetworks ?? []), ...endpointPrefixes(endpoint)];
      const refused = this.#failures.about(networks);
      const why = late ?? refused ?? this.#lastError?.what ?? 'it takes too long';
      throw new CalicoError(
        'kernel/not-programmed',
        { endpoint: endpointId, why },
        { cause: error },
      );
    }
  }

  /** Sets whether BGP provides routes between hosts. */
  setBgp(bgp: BgpState): void {
    if (this.managers.blockRoutes.setBgp(bgp)) this.#kick();
  }

  /** Sets who may connect to this host's BGP speaker; `undefined`: there is none. */
  setBgpListener(listener: BgpListener | undefined): void {
    this.managers.bgpGuard.setListener(listener);
    this.#kick();
  }

  /** Resolves when the kernel has been in sync after this call; rejects with the signal's reason. */
  async nextRound(signal: AbortSignal): Promise<void> {
    const { rounds } = this.health;
    // A round that is under way may have passed the routes.
    const isMet = () => this.#rounds > rounds && this.#inSyncSince !== undefined;
    this.#kick();
    await this.#waiters.until(isMet, withDeadline(signal, longestRoundMs));
  }

  /** Reports whether the kernel has the routes of a local endpoint. */
  isRouted(endpoint: WorkloadEndpoint): boolean {
    return this.managers.routes.isRouted(endpoint);
  }

  /** Reports whether the kernel has the routes and the policy of a local endpoint. */
  isProgrammed(endpoint: WorkloadEndpoint): boolean {
    return this.isRouted(endpoint) && this.managers.policy.isPlaced(endpoint);
  }

  get health(): AgentHealth {
    return {
      inSyncSince: this.#inSyncSince,
      failures: this.#failures.all(),
      lastError: this.#lastError,
      rounds: this.#rounds,
      tableTransactions: this.#deps.drivers.tableTransactions(),
    };
  }

  #take({ revision, changes, briefs }: EntryChanges): void {
    for (const change of changes) {
      for (const manager of this.#byKind.get(change.kind) ?? []) manager.onChange?.(change);
    }
    for (const brief of briefs) {
      for (const manager of this.#byKind.get(brief.kind) ?? []) manager.onBrief?.(brief);
    }
    this.#seen = revision;
    this.#kick();
  }

  /** Reports whether there may be something to write. */
  #takeEvent(event: HostEvent): boolean {
    if (event.kind === 'overrun') return (this.#mustResync = true);
    // The kernel also reports our own writes; whether there were others is checked at the end of the round.
    if (event.kind === 'nftables' && this.#running) return false;
    return this.#participants.map((one) => one.onEvent?.(event) ?? false).includes(true);
  }

  #kick(): void {
    this.#isRequested = true;
    if (this.#running || this.#signal.aborted || !this.#deps.mirror.inSync) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    let delays = backoffMs(100, 5000);
    while (this.#isRequested && !this.#signal.aborted) {
      this.#isRequested = false;
      this.#applying.turned();
      try {
        await this.#round();
        this.#applying.succeeded();
        delays = backoffMs(100, 5000);
      } catch (error) {
        this.#failed(this.#applying, error);
        this.#isRequested = true;
        await pause(delays.next().value, this.#signal);
      }
    }
    this.#running = false;
    this.#applying.rests();
    // Events reported during the last round may come from other programs.
    this.#listening.guard(
      () => {
        if (this.#takeEvent({ kind: 'nftables', processId: undefined })) this.#kick();
      },
      () => this.#resync(),
    );
  }

  async #round(): Promise<void> {
    this.#rounds++;
    if (this.#mustResync) {
      for (const participant of this.#participants) participant.resync?.();
      this.#mustResync = false;
    }
    const preparing = this.managers.all.flatMap((one) => one.prepare?.() ?? []);
    if (preparing.length > 0) await Promise.all(preparing);
    let revision = this.#seen;
    for (const phase of phases) {
      // Later changes belong to the next round.
      if (phase === 'additions') revision = this.#seen;
      const writing = this.#deps.drivers.all.flatMap((one) => one.apply(phase, this.#signal) ?? []);
      if (writing.length > 0) await Promise.all(writing);
      this.#follow(phase);
    }
    this.#failures.finish(this.#participants.flatMap((one) => one.failures?.() ?? []));
    if (this.managers.all.some(({ isUnfinished }) => isUnfinished === true)) {
      this.#isRequested = true;
      return;
    }
    this.#applied = revision;
    this.#inSyncSince ??= new Date();
    this.#waiters.settle();
  }

  /** Once the tables are written, the failure of one manager does not stop the others. */
  #follow(phase: Phase): void {
    const isBefore = phases.indexOf(phase) < phases.indexOf('tables');
    for (const manager of this.managers.all) {
      const apply = () => manager.apply?.(phase);
      if (isBefore) apply();
      else this.#failures.attempt(manager.name, apply);
    }
  }

  #resync(): void {
    this.#mustResync = true;
    this.#kick();
  }

  #failed(work: Work, error: unknown): void {
    this.#inSyncSince = undefined;
    this.#lastError = { at: new Date(), what: describe(error) };
    work.failed(error);
    this.#mustResync = true;
  }

  /** Finds changes by others that the kernel did not report, or reported while nobody listened. */
  async #pollPeriodically(work: Work, signal: AbortSignal): Promise<void> {
    let readAt = Date.now();
    while (!signal.aborted) {
      work.turned();
      await pause(pollMs, signal);
      if (this.#running || signal.aborted || !this.#deps.mirror.inSync) continue;
      if (Date.now() - readAt > resyncMs) {
        readAt = Date.now();
        this.#deps.drivers.retryRefused();
        this.#resync();
        continue;
      }
      try {
        const isInSync = this.#inSyncSince !== undefined;
        const found = this.#participants.map((one) => one.poll?.({ isInSync }) ?? false);
        if (found.includes(true) || this.#failures.hasDue) this.#kick();
        work.succeeded();
      } catch (error) {
        this.#failed(work, error);
        this.#kick();
      }
    }
  }
}

function managersByKind(managers: readonly Manager[]): ReadonlyMap<EntryKind, readonly Manager[]> {
  const byKind = new Map<EntryKind, Manager[]>();
  for (const manager of managers) {
    for (const kind of manager.kinds) byKind.set(kind, [...(byKind.get(kind) ?? []), manager]);
  }
  return byKind;
}
