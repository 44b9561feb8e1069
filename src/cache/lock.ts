import { CalicoError } from '../errors/error.ts';
import type { Mirror } from './mirror.ts';
import type { View } from './view.ts';
import type { Draft } from '../datastore/writer.ts';

/**
 * Calico's datastore lock, as `calicoctl datastore migrate` sets it: `datastoreReady: false` in the ClusterInformation
 * `default`. A locked datastore accepts only the write that unlocks it.
 */

const lock = 'default';

/** Reports whether the datastore is locked; one without the field, such as a new one, is not. */
export function isLocked(draft: Pick<Draft, 'get'>): boolean {
  return draft.get('ClusterInformation', lock)?.spec.datastoreReady === false;
}

/** As `isLocked`, for a mirror; `false` before it is in sync. */
export function isMirrorLocked(mirror: Mirror): boolean {
  if (!mirror.inSync) return false;
  return mirror.get('ClusterInformation', lock)?.value.spec.datastoreReady === false;
}

/** Returns the error for writes to a locked datastore. */
export function lockedError(endpoint: string): CalicoError {
  return new CalicoError('datastore/locked', { endpoint });
}

/** Makes the commit fail if the datastore has been locked meanwhile; an unreadable lock counts as unlocked. */
export function expectLock(draft: Draft, view: View): void {
  if (view.unreadable('ClusterInformation', lock) === undefined) {
    draft.expect('ClusterInformation', lock);
  }
}

/**
 * Locks or unlocks the datastore; returns whether that changed anything. Throws `datastore/not-found` for a new
 * datastore.
 */
export function setLocked(draft: Draft, locked: boolean): boolean {
  const present = draft.get('ClusterInformation', lock);
  if (present === undefined) {
    throw new CalicoError('datastore/not-found', { kind: 'ClusterInformation', name: lock });
  }
  if (isLocked(draft) === locked) return false;
  const spec = { ...present.spec, datastoreReady: !locked };
  draft.put('ClusterInformation', lock, { ...present, spec });
  return true;
}
