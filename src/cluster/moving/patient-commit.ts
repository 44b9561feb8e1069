import { pause } from '../../async/deadline.ts';
import type { Datastore, KeyValue, Transaction } from '../../datastore/datastore.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';

/** How long a step waits for a datastore that cannot be reached, in milliseconds. */
const patienceMs = 15_000;
const retryMs = 200;

/** Commits, again while the store cannot be reached; an attempt that was applied without a response counts. */
export async function commitPatiently(
  store: Datastore,
  transaction: Transaction,
  signal: AbortSignal,
): Promise<bigint> {
  const result = await patiently(() => store.commit(transaction, signal), signal);
  if (result.kind === 'committed') return result.revision;
  const { writes } = transaction;
  const present = byKey(
    (
      await store.read(
        writes.map(({ key }) => key),
        signal,
      )
    ).items,
  );
  const isApplied = writes.every(({ key, value }) => present.get(key)?.value === value);
  if (!isApplied) {
    throw new CalicoError('datastore/changed', { endpoint: store.endpoint });
  }
  return present.get(writes[0]?.key ?? '')?.modRevision ?? result.revision;
}

/** Repeats a call for as long as an election of etcd takes. */
export async function patiently<T>(act: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const end = Date.now() + patienceMs;
  for (;;) {
    try {
      return await act();
    } catch (error) {
      const isAway = isCalicoError(error, 'datastore/unavailable', 'datastore/outcome-unknown');
      if (!isAway || signal.aborted || Date.now() > end) throw error;
      await pause(retryMs, signal);
    }
  }
}

/** Returns values by their key. */
export function byKey(items: readonly KeyValue[]): ReadonlyMap<string, KeyValue> {
  return new Map(items.map((item) => [item.key, item]));
}
