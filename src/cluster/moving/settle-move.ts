import type { Datastore } from '../../datastore/datastore.ts';
import { isCalicoError } from '../../errors/error.ts';
import { findLock, openLock } from './move-lock.ts';
import { deleteRecords } from './move-records.ts';

/** What an interrupted move of this node needed in the datastore that its daemon uses now. */
export type Settled =
  | 'nothing'
  /** The data is here, and the datastore is open again. */
  | 'opened'
  /** The data is in the file of this host. */
  | 'moved';

/**
 * Ends an interrupted move, for a daemon that begins to use a datastore: a move from here is undone, or completed if its
 * last step was done. `other` opens the SQLite file of this host, if there is one and it is not the datastore itself.
 */
export async function settleMove(
  store: Datastore,
  { node, other }: { readonly node: string; readonly other: () => Promise<Datastore | undefined> },
  signal: AbortSignal,
): Promise<Settled> {
  const lock = await findLock(store, signal);
  if (lock === undefined) return 'nothing';
  const { mark } = lock;
  if (mark === undefined) {
    // The user of a node may not read them; then a member, or the repeated command, deletes them.
    await deleteRecords(store, node, signal).catch(ignoreRefusal);
    return 'nothing';
  }
  if (mark.node !== node || mark.state === 'restored') return 'nothing';
  if (mark.state === 'copying') {
    await openLock(store, lock, signal);
    return 'opened';
  }
  const counterpart = await other();
  if (counterpart === undefined) return 'nothing';
  try {
    const there = await findLock(counterpart, signal);
    if (there === undefined) return 'nothing';
    const isCopy = there.information.spec.clusterGUID === lock.information.spec.clusterGUID;
    if (mark.state === 'moved' && there.mark === undefined && isCopy) return 'moved';
    if (there.mark?.id !== mark.id) return 'nothing';
    const states = `${mark.state} ${there.mark.state}`;
    if (states === 'arriving moved') {
      await openLock(store, lock, signal);
      return 'opened';
    }
    if (states !== 'moved arriving') return 'nothing';
    await openLock(counterpart, there, signal);
    return 'moved';
  } finally {
    await counterpart.close();
  }
}

function ignoreRefusal(error: unknown): void {
  if (!isCalicoError(error, 'datastore/refused')) throw error;
}
