import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { backoffMs, pause, within } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { mirrorLockMark } from '../cache/lock.ts';
import { clusterPaths, readClusterFile } from '../cluster/cluster-file.ts';
import { datastoreAccess } from '../cluster/datastore-access.ts';
import { loadSettings, settingsFile } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { writeOwnCopy } from '../cluster/leaving/own-copy.ts';
import { leaveFor } from '../cluster/leaving/put-in-place.ts';
import type { LeaveResult } from '../cluster/leaving/request.ts';
import { findLock } from '../cluster/moving/move-lock.ts';
import { moveData } from '../cluster/moving/move.ts';
import type { MoveRequest, MoveResult } from '../cluster/moving/request.ts';
import { settleMove, type Settled } from '../cluster/moving/settle-move.ts';
import type { Datastore } from '../datastore/datastore.ts';
import {
  openDatastore,
  openPatiently,
  type DatastoreOptions,
} from '../datastore/open-datastore.ts';
import { describe } from '../errors/error.ts';
import type { Check } from '../telemetry/status-report.ts';
import type { Common } from './common.ts';
import type { DatastoreComponent } from './datastore-component.ts';
import type { NodePresence } from './node-presence.ts';

/** How long reading all of the new datastore may take, in milliseconds. */
const readingMs = 120_000;
const finishMs = 30_000;
/** How long a daemon that has just started waits for what it has saved, and between two looks, in milliseconds. */
const [knownMs, knownPollMs] = [20_000, 100];

type MoverCommon = Pick<Common, 'settings' | 'node' | 'now' | 'signal' | 'log' | 'stamp'>;

interface MovedStore extends Pick<DatastoreComponent, 'datastore' | 'mirror' | 'writer'> {
  readonly presence: Pick<NodePresence, 'leave' | 'renew' | 'claimAgain'>;
}

/**
 * Moves the data of this host to another datastore, and the daemon with it. Docker and the kernel do not notice: plans
 * wait while the data moves, the mirror then lists the new datastore and finds the same in it, and everything above it
 * stays as it is.
 */
export class DataMover {
  readonly #common: MoverCommon;
  readonly #store: MovedStore;
  #moving: Promise<unknown> | undefined;
  #hasGoneOver = false;
  /** The datastore in use, as the settings should choose it. */
  #chosen: DatastoreOptions;

  constructor(common: MoverCommon, store: MovedStore) {
    this.#common = common;
    this.#store = store;
    this.#chosen = datastoreAccess(common.settings, 'node');
  }

  /**
   * Moves everything; resolves when Docker's calls use the new datastore. A move goes on when the command that requested
   * it has ended; another one follows it. Throws `datastore/…`.
   */
  move(request: MoveRequest, progress: (line: string) => void): Promise<MoveResult> {
    return this.#inTurn(() => this.#move(request, progress));
  }

  /**
   * Goes over to a datastore of this host that has what is known of the one in use, which does not respond or accepts
   * this host no longer. Throws `datastore/…`; then nothing has changed.
   */
  leaveCluster(progress: (line: string) => void): Promise<LeaveResult> {
    return this.#inTurn(() => this.#leaveCluster(progress));
  }

  async #inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    while (this.#moving !== undefined) await this.#moving.catch(() => undefined);
    const moving = act().finally(() => {
      this.#moving = undefined;
    });
    this.#moving = moving;
    return moving;
  }

  /** Ends an interrupted move of this host before the datastore is used. Throws `datastore/…`. */
  async settleFirst(signal: AbortSignal): Promise<void> {
    await this.#settleOnce(this.#store.datastore.store, signal);
  }

  /**
   * Ends an interrupted move of this host whenever the datastore is locked by one, until the signal is aborted.
   */
  async settle(work: Work, signal: AbortSignal): Promise<void> {
    const { mirror, datastore } = this.#store;
    let wake = new AbortController();
    const unsubscribe = mirror.subscribe(({ changes }) => {
      if (changes.some(({ kind }) => kind === 'ClusterInformation')) wake.abort();
    });
    const delays = backoffMs(500, 10_000);
    try {
      while (!signal.aborted) {
        wake = new AbortController();
        let waitMs = 600_000;
        try {
          const isLocked = mirrorLockMark(mirror)?.node === this.#common.node;
          if (this.#moving === undefined && isLocked)
            await this.#settleOnce(datastore.store, signal);
          work.succeeded();
        } catch (error) {
          if (!signal.aborted) work.failed(error);
          waitMs = delays.next().value;
        }
        await pause(waitMs, AbortSignal.any([signal, wake.signal]));
      }
    } finally {
      unsubscribe();
    }
  }

  /** Returns the status check: whether the settings choose the datastore that the daemon has gone over to. */
  checks(): readonly Check[] {
    if (!this.#hasGoneOver || chosenAtRestart(this.#chosen)) return [];
    const { endpoint } = this.#store.datastore;
    const remedy =
      this.#chosen.kind === 'etcd'
        ? `Write ETCD_ENDPOINTS=${endpoint}, with its certificates if it has any, to /etc/calico/calico-cnm.env before the daemon restarts.`
        : 'Remove ETCD_ENDPOINTS from /etc/calico/calico-cnm.env before the daemon restarts.';
    const detail = `the data was moved to ${endpoint}; the settings still choose another datastore`;
    return [{ name: 'datastore setting', ok: false, detail, remedy }];
  }

  async #move(request: MoveRequest, progress: (line: string) => void): Promise<MoveResult> {
    const { datastore } = this.#store;
    const { to, afterwards = to } = request;
    const target = await openPatiently(to);
    try {
      const isThere =
        isSame(afterwards, this.#chosen) || (await isOneCluster(target, datastore.store));
      const { moved, kept } = isThere
        ? await this.#finish(target)
        : await this.#moveTo(request, target, progress);
      return { moved, kept, endpoint: datastore.endpoint };
    } finally {
      await target.close();
    }
  }

  async #moveTo(
    request: MoveRequest,
    target: Datastore,
    progress: (line: string) => void,
  ): Promise<Pick<MoveResult, 'moved' | 'kept'>> {
    const { node, now, signal, log } = this.#common;
    const { datastore, mirror, writer, presence } = this.#store;
    if (mirror.health.inSyncSince === undefined) throw mirror.whyNotInSync();
    const former = datastore.store;
    const { from, afterwards = request.to } = request;
    // Whatever can fail does before the data moves.
    await using opened = new AsyncDisposableStack();
    const source = from === undefined ? former : await openPatiently(from);
    opened.defer(async () => {
      if (source !== former) await source.close();
    });
    const store = await openDatastore(afterwards);
    opened.defer(async () => {
      if (datastore.store !== store) await store.close();
    });
    let resume = () => undefined as void;
    try {
      const outcome = await moveData(
        {
          node,
          source,
          target,
          mode: request.target,
          now,
          progress,
          quiesce: async () => {
            await presence.leave(writer);
            resume = await writer.pause();
          },
        },
        signal,
      );
      // A snapshot of the cluster that was used before, if any, must not be taken for one of this.
      await rm(this.#common.settings.snapshotFile, { force: true });
      // If it fails, the datastore is locked still, and `settle` opens it.
      await outcome
        .finish(AbortSignal.timeout(finishMs))
        .catch((error: unknown) =>
          log.warn('move not finished, retrying', { why: describe(error) }),
        );
      const after = datastore.use(store);
      this.#goneOver(afterwards);
      await within(readingMs, (stop) => mirror.reached(after, stop));
      await former.close();
      log.info('data moved', { from: source.endpoint, to: store.endpoint, values: outcome.moved });
      progress(`using ${store.endpoint}`);
      return outcome;
    } finally {
      resume();
      await presence
        .renew(writer, signal)
        .catch((error: unknown) =>
          log.warn('node report not written, retrying', { why: describe(error) }),
        );
    }
  }

  async #leaveCluster(progress: (line: string) => void): Promise<LeaveResult> {
    const { node, now, signal, log, settings, stamp } = this.#common;
    const { datastore, mirror, writer, presence } = this.#store;
    const { datastoreFile, snapshotFile } = settings;
    const former = datastore.store;
    if (former.leases === undefined) return { kind: 'left before' };
    // At its start, the daemon uses what it has saved as soon as the datastore has not responded.
    const end = Date.now() + knownMs;
    while (!mirror.inSync && Date.now() < end) await pause(knownPollMs, signal);
    if (!mirror.inSync) return { kind: 'nothing known' };
    const resume = await writer.pause();
    try {
      progress('writing what this host knows to a datastore of its own');
      const file = `${datastoreFile}.own`;
      const { snapshotOf } = mirror.health;
      const copy = await writeOwnCopy(mirror, { node, file, stamp, now }, signal);
      leaveFor(clusterPaths(settings), { file, datastoreFile });
      const here = { kind: 'sqlite', file: datastoreFile } as const;
      const after = datastore.use(await openDatastore(here));
      this.#goneOver(here);
      await within(readingMs, (stop) => mirror.reached(after, stop));
      await former.close();
      await rm(snapshotFile, { force: true });
      log.warn('this host has left its cluster, which does not respond or has removed it', {
        networks: copy.networks,
        containers: copy.containers,
      });
      progress(`using ${datastoreFile}`);
      const savedAt = snapshotOf === undefined ? {} : { savedAt: snapshotOf.toISOString() };
      return { kind: 'left', ...copy, otherNodes: [...copy.otherNodes], ...savedAt };
    } finally {
      resume();
      if (datastore.leases === undefined) await presence.claimAgain(writer, signal);
    }
  }

  #goneOver(chosen: DatastoreOptions): void {
    this.#chosen = chosen;
    this.#hasGoneOver = true;
  }

  /** The daemon has gone over already; what was left to do in the target is done. */
  async #finish(target: Datastore): Promise<Pick<MoveResult, 'moved' | 'kept'>> {
    await this.#settleOnce(target, AbortSignal.timeout(finishMs));
    return { moved: 0, kept: 0 };
  }

  async #settleOnce(store: Datastore, signal: AbortSignal): Promise<void> {
    const { node, settings, log } = this.#common;
    const { datastore, mirror } = this.#store;
    const mark = mirrorLockMark(mirror);
    const file = settings.datastoreFile;
    const isFile = store.leases === undefined;
    const other = async () =>
      isFile || !existsSync(file) ? undefined : openDatastore({ kind: 'sqlite', file });
    await using admin = await withAdmin(settings, store);
    const settled: Settled = await settleMove(admin?.datastore ?? store, { node, other }, signal);
    if (settled === 'opened')
      log.info('interrupted move undone', { from: mark?.from, to: mark?.to });
    if (settled !== 'moved') return;
    // The data is in the file; the settings may still choose etcd.
    const before = datastore.store;
    const here = { kind: 'sqlite', file } as const;
    const after = datastore.use(await openDatastore(here));
    this.#goneOver(here);
    await within(readingMs, (stop) => mirror.reached(after, AbortSignal.any([signal, stop])));
    await before.close();
  }
}

/** A node may not open the lock of its cluster, which the administrator has closed for it to move its data away. */
async function withAdmin(
  settings: Settings,
  store: Datastore,
): Promise<({ readonly datastore: Datastore } & AsyncDisposable) | undefined> {
  const isOfCluster = readClusterFile(clusterPaths(settings)) !== undefined;
  if (settings.etcdEndpoints !== undefined || store.leases === undefined || !isOfCluster)
    return undefined;
  const access = datastoreAccess(settings, 'admin');
  if (access.kind !== 'etcd' || access.role !== undefined) return undefined;
  const datastore = await openPatiently(access);
  return { datastore, [Symbol.asyncDispose]: () => datastore.close() };
}

/**
 * Reports whether a daemon that starts now would choose the datastore: by the settings file, or with the environment of
 * this one, which systemd has read from that file earlier.
 */
function chosenAtRestart(chosen: DatastoreOptions): boolean {
  return [{}, process.env].some((environment) => {
    try {
      const { settings } = loadSettings(environment, settingsFile);
      const access = datastoreAccess(settings, 'node');
      // The endpoints of a cluster follow its members.
      const isCluster = settings.etcdEndpoints === undefined && access.kind === 'etcd';
      return isSame(chosen, access) || (isCluster && chosen.kind === 'etcd');
    } catch {
      return false;
    }
  });
}

/** Reports whether two stores are the same etcd: its members may have changed, and with them the endpoints. */
async function isOneCluster(target: Datastore, present: Datastore): Promise<boolean> {
  if (target.leases === undefined || present.leases === undefined) return false;
  await findLock(target, AbortSignal.timeout(finishMs));
  return target.cluster !== undefined && target.cluster === present.cluster;
}

function isSame(one: DatastoreOptions, other: DatastoreOptions): boolean {
  if (one.kind === 'sqlite') return other.kind === 'sqlite' && one.file === other.file;
  if (other.kind === 'sqlite') return false;
  const of = ({ endpoints }: { readonly endpoints: readonly string[] }) =>
    endpoints.toSorted().join(' ');
  return of(one) === of(other);
}
