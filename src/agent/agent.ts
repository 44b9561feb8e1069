import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import type { EntryChanges } from '../cache/mirror.ts';
import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import type { KernelEvent } from '../dataplane/netlink/monitor.ts';
import { CalicoError, describe } from '../errors/error.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { AgentDeps } from './agent-deps.ts';
import { ApplyFailures } from './apply-failures.ts';
import { phases, type HostEvent, type Manager, type Participant, type Phase } from './manager.ts';
import { createManagers, type Managers } from './managers.ts';

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

/** The kernel tells nobody of changes in address sets and legacy tables, so it is looked at. */
const lookMs = 500;
/** What a look cannot see is found by reading everything. */
const resyncMs = 600_000;
const programmedMs = 8000;
/** Longer than any round takes: its tools are given up after 30 s each. */
const longestRoundMs = 300_000;
const longestLookMs = 120_000;

/**
 * Makes this host's kernel hold what the datastore says. Managers take changes as they come and tell the drivers what
 * they want; one round at a time writes what differs, phase by phase.
 */
export class Agent {
  readonly managers: Managers;
  readonly #deps: AgentDeps;
  /** First the drivers, then the managers, which do what has to follow. */
  readonly #participants: readonly Participant[];
  readonly #byKind: ReadonlyMap<EntryKind, readonly Manager[]>;
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
  #signal = AbortSignal.abort();

  constructor(deps: AgentDeps) {
    this.#deps = deps;
    const { supervisor } = deps;
    this.#rounding = supervisor.work('kernel rounds', { maxSilentMs: longestRoundMs });
    this.#listening = supervisor.work('kernel events');
    this.#failures = new ApplyFailures(deps.log);
    this.managers = createManagers({ ...deps, kernel: deps.drivers.kernel });
    this.#participants = [...deps.drivers.all, ...this.managers.all];
    this.#byKind = managersByKind(this.managers.all);
  }

  /** Follows datastore and kernel until the signal is aborted; nothing is written before the first listing. */
  start(signal: AbortSignal): void {
    this.#signal = signal;
    for (const manager of this.managers.all) manager.start?.();
    const stop = this.#deps.mirror.subscribe((changes) => this.#take(changes));
    signal.addEventListener('abort', stop, { once: true });
    const { supervisor } = this.#deps;
    const looking = supervisor.work('kernel checks', { maxSilentMs: longestLookMs });
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

  /** Told after an interface was made, so that its routes need not wait for the kernel's notification. */
  linkMade(name: string, { hasIpv6 }: { readonly hasIpv6: boolean }): void {
    if (this.#takeEvent({ kind: 'linkMade', name, hasIpv6 })) this.#kick();
  }

  /**
   * Resolves when the kernel has acknowledged what the datastore said of an endpoint at a revision: its policy
   * and its routes. Throws `kernel/not-programmed` if it takes too long.
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
      const networks = containers.endpoint(endpointId)?.spec.ipNetworks ?? [];
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
    return this.managers.routes.isRouted(endpoint);
  }

  /** Whether the kernel routes to an endpoint of this host and knows its policy. */
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

  /** Answers whether there may be something to write. */
  #takeEvent(event: HostEvent): boolean {
    if (event.kind === 'overrun') return (this.#mustResync = true);
    // Our own writing is told as well; when it has ended, it is looked whether there was more.
    if (event.kind === 'nftables' && this.#running) return false;
    return this.#participants.map((one) => one.onEvent?.(event) ?? false).includes(true);
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
    let revision = this.#seen;
    for (const phase of phases) {
      // What changes from here on is the next round's.
      if (phase === 'additions') revision = this.#seen;
      const writing = this.#deps.drivers.all.flatMap((one) => one.apply(phase, this.#signal) ?? []);
      if (writing.length > 0) await Promise.all(writing);
      this.#follow(phase);
    }
    this.#failures.finish(this.#participants.flatMap((one) => one.failures?.() ?? []));
    this.#applied = revision;
    this.#inSyncSince ??= new Date();
    this.#waiters.settle();
  }

  /** That a manager fails keeps nobody from the others, once the tables have been written. */
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

  /** Finds what others changed and the kernel does not tell of, or told while nobody listened. */
  async #lookNowAndThen(work: Work, signal: AbortSignal): Promise<void> {
    let readAt = Date.now();
    while (!signal.aborted) {
      work.turned();
      await pause(lookMs, signal);
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
