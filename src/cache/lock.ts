import { CalicoError } from '../errors/error.ts';
import type { Mirror } from './mirror.ts';
import type { View } from './view.ts';
import type { Draft } from '../datastore/writer.ts';
import {
  moveMarkOf,
  withMoveMark,
  type ClusterInformation,
  type MoveMark,
} from '../model/kinds/cluster-information.ts';

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

/** Returns the error for writes to a locked datastore, by the mark of the move that locked it, if any. */
export function lockedError(endpoint: string, mark?: MoveMark): CalicoError {
  if (mark === undefined) return new CalicoError('datastore/locked', { endpoint });
  if (mark.state === 'moved') return new CalicoError('datastore/moved', { endpoint, to: mark.to });
  const { node, from, to, since } = mark;
  if (mark.state === 'restored') {
    return new CalicoError('datastore/restoring', { endpoint, from, since });
  }
  if (mark.state === 'arriving') return new CalicoError('datastore/incomplete', { endpoint, from });
  return new CalicoError('datastore/moving', { node, from, to, since });
}

/** Returns the mark of the move that locked the datastore, if one did. */
export function lockMark(draft: Pick<Draft, 'get'>): MoveMark | undefined {
  const present = draft.get('ClusterInformation', lock);
  return present && moveMarkOf(present);
}

/** As `lockMark`, for a mirror. */
export function mirrorLockMark(mirror: Mirror): MoveMark | undefined {
  return mirror.inSync ? lockMark({ get: (kind, id) => mirror.get(kind, id)?.value }) : undefined;
}

/** Makes the commit fail if the datastore has been locked meanwhile; an unreadable lock counts as unlocked. */
export function expectLock(draft: Draft, view: View): void {
  if (view.unreadable('ClusterInformation', lock) === undefined) {
    draft.expect('ClusterInformation', lock);
  }
}

/**
 * Locks or unlocks the datastore; returns whether that changed anything. Unlocking ends the lock of a move that was
 * interrupted; one that still runs fails. Throws `datastore/not-found` for a new datastore, `datastore/moved` for one
 * whose data was moved.
 */
export function setLocked(draft: Draft, locked: boolean): boolean {
  const present = draft.get('ClusterInformation', lock);
  if (present === undefined) {
    throw new CalicoError('datastore/not-found', { kind: 'ClusterInformation', name: lock });
  }
  if (isLocked(draft) === locked) return false;
  const mark = moveMarkOf(present);
  if (mark?.state === 'moved') throw lockedError(mark.from, mark);
  if (mark?.state === 'arriving') throw lockedError(mark.to, mark);
  draft.put('ClusterInformation', lock, lockedForm(present, locked));
  return true;
}

function lockedForm(present: ClusterInformation, locked: boolean): ClusterInformation {
  if (!locked) return withMoveMark(present, undefined);
  return { ...present, spec: { ...present.spec, datastoreReady: false } };
}
