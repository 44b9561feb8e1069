import type { LiveMirror } from '../../cache/live-mirror.ts';
import { isMirrorLocked, lockedError, mirrorLockMark } from '../../cache/lock.ts';
import type { Check } from '../../telemetry/status-report.ts';

const keptMeanwhile = 'Running containers keep their network and policy; new ones cannot start.';

/** Returns the status check of the datastore: in sync, and not locked. */
export function datastoreCheck(mirror: LiveMirror): Check {
  const { inSyncSince, lastError, isRefused, snapshotOf } = mirror.health;
  const { endpoint } = mirror.datastore;
  const name = 'datastore';
  if (inSyncSince === undefined) {
    const from = snapshotOf === undefined ? '' : `from a snapshot of ${snapshotOf.toISOString()}; `;
    return {
      name,
      ok: false,
      detail: `${from}${endpoint}: ${lastError ?? 'not read yet'}`,
      remedy: isRefused
        ? keptMeanwhile
        : 'Running containers keep their network and policy. Restore the connection to the datastore.',
    };
  }
  const detail = `${endpoint}, in sync since ${inSyncSince.toISOString()}`;
  if (!isMirrorLocked(mirror)) return { name, ok: true, detail };
  const mark = mirrorLockMark(mirror);
  if (mark !== undefined) {
    const detail = lockedError(endpoint, mark).message;
    return { name, ok: false, detail, remedy: keptMeanwhile };
  }
  return {
    name,
    ok: false,
    detail: `${detail}; locked for maintenance (datastoreReady: false)`,
    remedy:
      'Running containers keep their network and policy; new ones cannot start. Unlock after maintenance: calico-cnm datastore unlock.',
  };
}
