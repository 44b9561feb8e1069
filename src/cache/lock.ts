import { CalicoError } from '../errors/error.ts';
import type { Mirror } from './mirror.ts';
import type { View } from './view.ts';
import type { Draft } from '../datastore/writer.ts';

/**
 * Calico's lock on a whole datastore, as its migration sets it: `datastoreReady: false` in the ClusterInformation
 * `default`. Nothing is written then, but what unlocks it.
 */

const lock = 'default';

/** Whether nothing may be written; a datastore that says nothing, as a new one, is not locked. */
export function isLocked(draft: Pick<Draft, 'get'>): boolean {
  return draft.get('ClusterInformation', lock)?.spec.datastoreReady === false;
}

/** As `isLocked`, of what has been read; `false` before anything was. */
export function isMirrorLocked(mirror: Mirror): boolean {
  if (!mirror.inSync) return false;
  return mirror.get('ClusterInformation', lock)?.value.spec.datastoreReady === false;
}

/** What those are told who want to write. */
export function lockedError(endpoint: string): CalicoError {
  return new CalicoError('datastore/locked', { endpoint });
}

/** The commit holds only if nobody has locked the datastore meanwhile; a lock that cannot be read is none. */
export function expectLock(draft: Draft, view: View): void {
  if (view.unreadable('ClusterInformation', lock) === undefined) {
    draft.expect('ClusterInformation', lock);
  }
}

/** A plan that locks or unlocks; answers whether anything changed. Throws `datastore/not-found` for a new datastore. */
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
