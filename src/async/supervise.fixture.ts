import { Supervisor, type Work } from './supervise.ts';

/** A supervisor that does not count failures, for unit tests. */
export function looseSupervisor(): Supervisor {
  return new Supervisor({ onFailure: () => undefined });
}

/** Work that does not count failures. */
export function looseWork(): Work {
  return looseSupervisor().work('test');
}
