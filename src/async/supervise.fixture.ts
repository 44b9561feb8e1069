import { Supervisor, type Work } from './supervise.ts';

/** A supervisor whose failures nobody counts, for what is tested by itself. */
export function looseSupervisor(): Supervisor {
  return new Supervisor({ onFailure: () => undefined });
}

/** Work whose failures nobody counts. */
export function looseWork(): Work {
  return looseSupervisor().work('test');
}
