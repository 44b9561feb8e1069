import { z } from 'zod';
import { listAll, type Datastore } from '../../datastore/datastore.ts';
import { commitPatiently } from '../moving/patient-commit.ts';

/** The reports of hosts that have written what they know of themselves into a restored datastore. */

export const restoreReportsRoot = '/calico-cnm/restores/';

/** Returns the key of a node's report; the node may write it. */
export function restoreReportKey(node: string): string {
  return `${restoreReportsRoot}${node}`;
}

const restoreReport = z.object({
  node: z.string(),
  /** The restore, by the mark of its lock. */
  id: z.string(),
  /** Number of values written. */
  written: z.number(),
  /** One sentence each. */
  conflicts: z.array(z.string()),
});

export type RestoreReport = z.infer<typeof restoreReport>;

/** Replaces the report of a node. */
export async function putReport(
  store: Datastore,
  report: RestoreReport,
  signal: AbortSignal,
): Promise<void> {
  const key = restoreReportKey(report.node);
  await commitPatiently(
    store,
    { compares: [], writes: [{ key, value: JSON.stringify(report) }] },
    signal,
  );
}

/** Returns the reports of a restore. */
export async function readReports(
  store: Datastore,
  id: string,
  signal: AbortSignal,
): Promise<readonly RestoreReport[]> {
  const { items } = await listAll(store, restoreReportsRoot, signal);
  return items
    .map(({ value }) => restoreReport.parse(JSON.parse(value)))
    .filter((report) => report.id === id);
}
