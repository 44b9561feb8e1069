import { isCalicoError } from '../errors/error.ts';
import type { Datastore } from './datastore.ts';

/**
 * Reports whether this process may write below a prefix. Nothing is written: etcd checks the permissions of all writes of
 * a transaction first (etcd, server/etcdserver/txn, checkTxnAuth), and the comparison of this one never holds. Throws
 * `datastore/unavailable`.
 */
export async function canWrite(
  datastore: Pick<Datastore, 'commit'>,
  prefix: string,
  signal: AbortSignal,
): Promise<boolean> {
  // A key that never exists has no revision.
  const key = `${prefix}?`;
  try {
    await datastore.commit(
      { compares: [{ key, modRevision: 1n }], writes: [{ key, value: undefined }] },
      signal,
    );
    return true;
  } catch (error) {
    if (isCalicoError(error, 'datastore/denied')) return false;
    throw error;
  }
}
