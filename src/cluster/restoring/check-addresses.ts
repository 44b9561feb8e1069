import { pause } from '../../async/deadline.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import { listAll } from '../../datastore/datastore.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import type { MoveMark } from '../../model/kinds/cluster-information.ts';
import { findLock, openLock } from '../moving/move-lock.ts';
import { readReports, type RestoreReport } from './report.ts';

const pollMs = 500;

/** The outcome of the check after a restore. */
export interface AddressCheck {
  readonly reports: readonly RestoreReport[];
  /** Nodes that have not reported: addresses that their containers received since the backup are not known. */
  readonly silent: readonly string[];
}

/**
 * Waits until all nodes have written what they have into a restored datastore, or the time is over, and unlocks it. So
 * nothing that runs on a host that can be reached is allocated again.
 */
export async function checkAddresses(
  datastore: Datastore,
  mark: MoveMark,
  options: {
    readonly waitMs: number;
    readonly progress: (line: string) => void;
    readonly signal: AbortSignal;
  },
): Promise<AddressCheck> {
  const { waitMs, progress, signal } = options;
  const end = Date.now() + waitMs;
  const told = new Set<string>();
  for (;;) {
    const reports = await readReports(datastore, mark.id, signal);
    for (const { node, written } of reports) {
      if (!told.has(node)) progress(`node ${node} has written ${written} values that are newer`);
      told.add(node);
    }
    const silent = (await nodesIn(datastore, signal)).filter((node) => !told.has(node));
    const isSettled =
      silent.length === 0 && reports.every(({ conflicts }) => conflicts.length === 0);
    if (isSettled || Date.now() > end || signal.aborted) {
      const lock = await findLock(datastore, signal);
      if (lock?.mark?.id === mark.id) await openLock(datastore, lock, signal);
      return { reports, silent };
    }
    await pause(pollMs, signal);
  }
}

async function nodesIn(datastore: Datastore, signal: AbortSignal): Promise<readonly string[]> {
  const { items } = await listAll(datastore, entryTypeOf.Node.prefix, signal);
  return items.flatMap(({ key }) => entryTypeOf.Node.idOf(key) ?? []);
}
