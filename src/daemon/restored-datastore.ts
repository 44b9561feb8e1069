import { backoffMs, pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { GroupWriter } from '../cache/group-writer.ts';
import type { LiveMirror } from '../cache/live-mirror.ts';
import type { Snapshot } from '../cache/snapshot.ts';
import { findLock } from '../cluster/moving/move-lock.ts';
import { ownStateOf, valuesIn, type OwnState } from '../cluster/restoring/own-state.ts';
import { reassert } from '../cluster/restoring/reassert.ts';
import { putReport } from '../cluster/restoring/report.ts';
import type { MovableDatastore } from '../datastore/movable-datastore.ts';
import { describe } from '../errors/error.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Check } from '../telemetry/status-report.ts';

/** How long the hosts's own state is written before the restored datastore is read without it, in milliseconds. */
const writingMs = 60_000;
/** Interval of trying again what other hosts had not released yet. */
const retryMs = 3000;
const maxRetries = 100;

export interface RestoredDatastoreDeps {
  readonly node: string;
  readonly datastore: MovableDatastore;
  readonly mirror: LiveMirror;
  readonly writer: GroupWriter;
  /** Reads what this host knew when it ran last, of whatever cluster. */
  readonly readLast: () => Promise<Snapshot | undefined>;
  readonly log: Logger;
  readonly now: () => Date;
  readonly signal: AbortSignal;
}

/**
 * An etcd that was restored from a backup does not know what its hosts have received since. Before the mirror reads it,
 * this host writes its own state into it, so that its containers keep their addresses and policy, and no other host gets
 * their addresses.
 */
export class RestoredDatastore {
  readonly #deps: RestoredDatastoreDeps;
  #conflicts: readonly string[] = [];
  /** What has to be tried again, because of conflicts. */
  #own: OwnState | undefined;
  #wake = new AbortController();

  constructor(deps: RestoredDatastoreDeps) {
    this.#deps = deps;
  }

  /** Takes up the store that has replaced the one before; resolves when it can be read. Never rejects. */
  async takeUp(after: bigint): Promise<void> {
    const { mirror, writer, node, datastore, log, signal } = this.#deps;
    const last = mirror.inSync ? undefined : await this.#deps.readLast();
    if (!mirror.inSync && last === undefined) return;
    const known = last === undefined ? mirror : valuesIn(last);
    const information = known.cached('ClusterInformation').get('default');
    const cluster = information?.value.spec.clusterGUID;
    if (last !== undefined && cluster === undefined) return;
    const own = ownStateOf(known, node);
    // The last change before the end of the daemon may be missing in its snapshot.
    const isComplete = last === undefined;
    // Plans rest on the former store; the group in progress conflicts.
    const paused = writer.pause();
    const end = Date.now() + writingMs;
    for (const delayMs of backoffMs(200, 3000)) {
      try {
        await this.#write(own, { cluster, isComplete });
        break;
      } catch (error) {
        log.warn('own state not written to the restored datastore, retrying', {
          why: describe(error),
        });
        if (signal.aborted || Date.now() > end) break;
        await pause(delayMs, signal);
      }
    }
    log.warn('the datastore was restored or replaced', { endpoint: datastore.endpoint });
    void this.#resume(after, paused);
  }

  /** Tries again what was in conflict, until the signal is aborted. */
  async run(work: Work, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (let count = 0; count < maxRetries && this.#own !== undefined; count++) {
        await pause(retryMs, signal);
        if (signal.aborted) return;
        try {
          await this.#write(this.#stillOwn(this.#own), { isComplete: false });
          work.succeeded();
        } catch (error) {
          work.failed(error);
        }
      }
      this.#own = undefined;
      this.#wake = new AbortController();
      await pause(3_600_000, AbortSignal.any([signal, this.#wake.signal]));
    }
  }

  /** Returns the status check: addresses of this host that the restored datastore gives to others. */
  checks(): readonly Check[] {
    if (this.#conflicts.length === 0) return [];
    const remedy =
      'Release the address that is not in use (calico-cnm ipam release), or recreate one of the containers; then run calico-cnm ipam check --fix.';
    const detail = this.#conflicts.join('; ');
    return [{ name: 'restored datastore', ok: false, detail, remedy }];
  }

  /**
   * `cluster`: the clusterGUID that the data must have; another cluster gets nothing of this host. `isComplete`: what the
   * state does not have is released.
   */
  async #write(
    own: OwnState,
    {
      cluster,
      isComplete,
    }: { readonly cluster?: string | undefined; readonly isComplete: boolean },
  ): Promise<void> {
    const { datastore, node, now, log, signal } = this.#deps;
    const { store } = datastore;
    const lock = await findLock(store, signal);
    const present = lock?.information.spec.clusterGUID;
    if (present === undefined || (cluster !== undefined && present !== cluster)) return;
    const act = { now: now(), signal, releasesFormer: isComplete };
    const { written, conflicts } = await reassert(store, own, act);
    if (written > 0) log.info('own state written to the restored datastore', { values: written });
    for (const conflict of conflicts) {
      if (!this.#conflicts.includes(conflict))
        log.error('address conflict after a restore', { conflict });
    }
    this.#conflicts = conflicts;
    this.#own = conflicts.length > 0 ? own : undefined;
    if (this.#own !== undefined) this.#wake.abort();
    const id = lock?.mark?.state === 'restored' ? lock.mark.id : undefined;
    if (id === undefined) return;
    await putReport(store, { node, id, written, conflicts: [...conflicts] }, signal);
  }

  async #resume(after: bigint, paused: Promise<() => void>): Promise<void> {
    const { mirror, signal } = this.#deps;
    const resume = await paused;
    await mirror.reached(after, signal).catch(() => undefined);
    resume();
  }

  /** The addresses of a state that this host still has: containers may have been removed since. */
  #stillOwn({ node, allocations }: OwnState): OwnState {
    const { mirror } = this.#deps;
    const endpoints = new Set<string>();
    for (const { value } of mirror.cached('WorkloadEndpoint').values()) {
      if (value.spec.node === node) endpoints.add(value.spec.endpoint);
    }
    const isUsed = (endpoint: string | undefined) =>
      endpoint === undefined || endpoints.has(endpoint);
    return {
      node,
      entries: [],
      allocations: new Map(
        [...allocations].filter(([, { secondary }]) => isUsed(secondary?.['endpoint'])),
      ),
    };
  }
}
