import { Supervisor, type WorkReport } from '../async/supervise.ts';
import { describe, isCalicoError } from '../errors/error.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Check } from '../telemetry/status-report.ts';

/** Number of failures in a row that status reports. */
const repeatedly = 2;

/** Creates the supervisor of the daemon's background tasks, which logs and counts failures. */
export function createSupervisor(options: {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly isDatastoreAway: () => boolean;
}): Supervisor {
  const { log, metrics, isDatastoreAway } = options;
  return new Supervisor({
    // Each of these has its own line in the log or in status.
    waits: (error) =>
      isCalicoError(
        error,
        'docker/unavailable',
        'datastore/locked',
        'datastore/moving',
        'datastore/restoring',
      ) ||
      (isDatastoreAway() && isCalicoError(error) && error.code.startsWith('datastore/')),
    onFailure: ({ name, error, inARow, waits }) => {
      const facts = { work: name, why: describe(error), ...stackOf(error) };
      if (waits) return log.debug('background task waiting', facts);
      metrics.workFailures.inc({ work: name });
      // Of repeated failures the 1st, 2nd, 4th, 8th … is logged.
      if (Number.isInteger(Math.log2(inARow))) {
        log.warn('background task failed, retrying', { ...facts, inARow });
      }
    },
  });
}

/** Returns the status check of background tasks: those that failed repeatedly and have not succeeded since. */
export function backgroundCheck(reports: readonly WorkReport[]): Check {
  const failing = reports.filter(({ inARow }) => inARow >= repeatedly);
  const noted = reports.filter(({ last, inARow }) => last !== undefined && inARow < repeatedly);
  return {
    name: 'background tasks',
    ok: failing.length === 0,
    detail:
      failing.length + noted.length === 0
        ? `${reports.length} tasks running`
        : [...failing, ...noted].map(sentence).join('; '),
    remedy:
      'The daemon retries automatically. If the problem persists, see the log: journalctl -u calico-cnm.',
  };
}

function sentence({ name, inARow, last }: WorkReport): string {
  if (last === undefined) return name;
  if (last.waits && inARow === 0) return `${name} waits: ${last.why}`;
  const times = inARow === 1 ? 'failed once' : `failed ${inARow} times in a row`;
  return `${name} ${times}, last at ${last.at.toISOString()}: ${last.why}`;
}

/** Returns the stack of an error that is not in the catalogue. */
function stackOf(error: unknown): { readonly stack?: string } {
  if (isCalicoError(error) || !(error instanceof Error) || error.stack === undefined) return {};
  return { stack: error.stack };
}
