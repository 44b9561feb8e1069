import type { Datastore, KeyValue, RangeCompare } from '../../datastore/datastore.ts';
import { lockedError } from '../../cache/lock.ts';
import { CalicoError } from '../../errors/error.ts';
import {
  moveMarkOf,
  withMoveMark,
  type ClusterInformation,
  type MoveMark,
} from '../../model/kinds/cluster-information.ts';
import { entryTypeOf, rootPrefix } from '../../model/kinds/index.ts';
import { lockKey } from './move-plan.ts';
import { commitPatiently } from './patient-commit.ts';

/** Calico's datastore lock, in the hands of a move. */

/** The ClusterInformation of a datastore: its text, and what it says. */
export interface Lock {
  readonly item: KeyValue;
  readonly information: ClusterInformation;
  readonly mark: MoveMark | undefined;
}

/** Reads the lock of a datastore. Throws `datastore/not-found` for one without data, `datastore/corrupt`. */
export async function readLock(store: Pick<Datastore, 'read'>, signal: AbortSignal): Promise<Lock> {
  const lock = await findLock(store, signal);
  if (lock !== undefined) return lock;
  throw new CalicoError('datastore/not-found', { kind: 'ClusterInformation', name: 'default' });
}

/** As `readLock`; `undefined` for a datastore without data. */
export async function findLock(
  store: Pick<Datastore, 'read'>,
  signal: AbortSignal,
): Promise<Lock | undefined> {
  const [item] = (await store.read([lockKey], signal)).items;
  if (item === undefined) return undefined;
  const information = entryTypeOf.ClusterInformation.decode(lockKey, item.value);
  return { item, information, mark: moveMarkOf(information) };
}

/** Throws `datastore/…` for a datastore that is locked, unless by an interrupted move from there by this node. */
export function refuseLocked(
  { information, mark }: Lock,
  { endpoint, node }: { readonly endpoint: string; readonly node?: string },
): void {
  if (information.spec.datastoreReady !== false) return;
  if (mark === undefined || mark.state !== 'copying' || mark.node !== node) {
    throw lockedError(endpoint, mark);
  }
}

/** Writes the lock with a mark, over that of a revision; returns it. Throws if it was changed meanwhile. */
export async function putLock(
  store: Datastore,
  lock: {
    readonly information: ClusterInformation;
    readonly revision: bigint;
    readonly mark: MoveMark;
    readonly ranges: readonly RangeCompare[];
  },
  signal: AbortSignal,
): Promise<Lock> {
  const { revision, mark, ranges } = lock;
  const information = withMoveMark(lock.information, mark);
  const value = encodeLock(information);
  const compares = [{ key: lockKey, modRevision: revision }];
  const writes = [{ key: lockKey, value }];
  const modRevision = await commitPatiently(store, { compares, ranges, writes }, signal);
  return { item: { key: lockKey, value, modRevision }, information, mark };
}

function encodeLock(information: ClusterInformation): string {
  return entryTypeOf.ClusterInformation.encode(information);
}

/** The text of a lock that is open; byte for byte, unless an interrupted move had locked it. */
export function openText({ item, information, mark }: Lock): string {
  return mark === undefined ? item.value : encodeLock(withMoveMark(information, undefined));
}

/** Opens a datastore that a move has locked. */
export function openLock(store: Datastore, lock: Lock, signal: AbortSignal): Promise<unknown> {
  return replaceLock(store, { item: lock.item, value: openText(lock) }, signal);
}

/** Replaces the text of a lock. Throws `datastore/changed` if it is not the one that was read. */
export function replaceLock(
  store: Datastore,
  { item, value }: { readonly item: KeyValue; readonly value: string },
  signal: AbortSignal,
): Promise<unknown> {
  const compares = [{ key: lockKey, modRevision: item.modRevision }];
  return commitPatiently(store, { compares, writes: [{ key: lockKey, value }] }, signal);
}

/** Makes the target the datastore of the data, if nothing was written to the source since it was locked. */
export async function seal(
  source: Datastore,
  { item, information }: Lock,
  { mark, signal }: { readonly mark: MoveMark; readonly signal: AbortSignal },
): Promise<void> {
  const value = encodeLock(withMoveMark(information, { ...mark, state: 'moved' }));
  await commitPatiently(
    source,
    {
      compares: [{ key: lockKey, modRevision: item.modRevision }],
      ranges: [{ prefix: rootPrefix, afterRevision: item.modRevision }],
      writes: [{ key: lockKey, value }],
    },
    signal,
  );
}
