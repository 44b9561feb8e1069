import type { Supervisor } from '../async/supervise.ts';
import type { Mirror } from '../cache/mirror.ts';
import type { Drivers } from './kernel.ts';
import type { ManagerDeps } from './manager-deps.ts';

/** Dependencies of the agent. */
export interface AgentDeps extends Omit<ManagerDeps, 'kernel' | 'mirror' | 'programmed'> {
  readonly mirror: Pick<
    Mirror,
    'subscribe' | 'inSync' | 'get' | 'cachedInBrief' | 'unreadable' | 'allUnreadable'
  >;
  readonly supervisor: Supervisor;
  readonly drivers: Drivers;
}
