import { randomBytes } from 'node:crypto';
import { backoffMs, pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { Settings } from '../config/settings.ts';
import { defaultPools } from '../host/from-settings.ts';
import { bootstrap, bootstrapNode } from '../datastore/bootstrap.ts';
import type { LiveMirror } from '../cache/live-mirror.ts';
import type { Draft, Writer } from '../datastore/writer.ts';
import { isCalicoError } from '../errors/error.ts';
import type { IpFamily } from '../ip/address.ts';
import { createDefaultPool, type UsedRange } from '../ipam/pools/default-pools.ts';
import type { Stamp } from '../model/stamp.ts';
import type { NodePresence } from './node-presence.ts';

export interface InitializeDeps {
  readonly node: string;
  readonly settings: Settings;
  readonly families: readonly IpFamily[];
  readonly mirror: LiveMirror;
  readonly writer: Writer;
  readonly presence: NodePresence;
  readonly stamp: Stamp;
  readonly work: Work;
  /** Ends what an interrupted move of this host has left; may throw. */
  readonly settle: (signal: AbortSignal) => Promise<void>;
  /** Ranges that a default pool must not overlap. */
  readonly rangesInUse: () => readonly UsedRange[];
}

/**
 * Claims this host's name and creates the basic objects as soon as the datastore can be read: cluster, tier and Node,
 * and the default pools if there is no pool. Retries until it succeeds or the signal is aborted.
 */
export async function initializeDatastore(
  deps: InitializeDeps,
  signal: AbortSignal,
): Promise<void> {
  const { mirror, work } = deps;
  const delays = backoffMs(100, 2000);
  while (!signal.aborted) {
    try {
      await mirror.reached(0n, signal);
      await deps.settle(signal);
      await claimAndCreate(deps, signal);
      work.succeeded();
      return;
    } catch (error) {
      if (signal.aborted) return;
      work.failed(error);
      await pause(delays.next().value, signal);
    }
  }
}

/**
 * A node of a cluster cannot create what all nodes share: there `cluster init` has. If some of it was deleted since, the
 * node still claims its name.
 */
async function claimAndCreate(deps: InitializeDeps, signal: AbortSignal): Promise<void> {
  const { presence, writer, node: nodeName, stamp } = deps;
  try {
    await presence.claim(writer, (draft) => createContents(draft, deps), signal);
  } catch (error) {
    if (!isCalicoError(error, 'datastore/denied')) throw error;
    await presence.claim(writer, (draft) => bootstrapNode(draft, { nodeName, stamp }), signal);
  }
}

/** Creates the basic objects that are missing, in a new datastore all of them. */
export function createContents(
  draft: Draft,
  deps: Pick<InitializeDeps, 'node' | 'settings' | 'families' | 'stamp' | 'rangesInUse'>,
): void {
  const { node, settings, families, stamp } = deps;
  bootstrap(draft, { nodeName: node, stamp });
  // An unreadable pool may have any range.
  const hasPools = [...draft.entries('IPPool')].length + draft.unreadable('IPPool').size > 0;
  if (settings.noDefaultPools || hasPools) return;
  for (const pool of defaultPools(settings, families)) {
    const used = deps.rangesInUse();
    createDefaultPool(draft, { pool, used, random: randomBytes(5), stamp });
  }
}
