import type { LiveMirror } from '../../cache/live-mirror.ts';
import { isMirrorLocked } from '../../cache/lock.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** What `status` says of the datastore: whether it is followed, and may be written. */
export function datastoreCheck(mirror: LiveMirror): Check {
  const { inSyncSince, lastError, snapshotOf } = mirror.health;
  const { endpoint } = mirror.datastore;
  const name = 'datastore';
  if (inSyncSince === undefined) {
    const from = snapshotOf === undefined ? '' : `from a snapshot of ${snapshotOf.toISOString()}; `;
    return {
      name,
      ok: false,
      detail: `${from}${endpoint}: ${lastError ?? 'not read yet'}`,
      remedy: 'Running containers are not concerned; make the datastore reachable again.',
    };
  }
  const detail = `${endpoint}, in sync since ${inSyncSince.toISOString()}`;
  if (!isMirrorLocked(mirror)) return { name, ok: true, detail };
  return {
    name,
    ok: false,
    detail: `${detail}; locked for maintenance (datastoreReady is false), so that nothing is written`,
    remedy:
      'Running containers are not concerned, but none can be started; when the maintenance is over: calico-cnm datastore unlock.',
  };
}
