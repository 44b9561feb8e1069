import type { Supervisor } from '../async/supervise.ts';
import type { Mirror } from '../cache/mirror.ts';
import type { ChosenBackend } from '../dataplane/iptables/backend.ts';
import type { KernelSockets } from '../dataplane/kernel-sockets.ts';
import type { ToolRunner } from '../dataplane/process.ts';
import type { ManagerDeps } from './manager-deps.ts';

/** What the agent works with. */
export interface AgentDeps extends Omit<ManagerDeps, 'kernel'> {
  readonly mirror: Mirror;
  readonly supervisor: Supervisor;
  readonly runner: ToolRunner;
  readonly sockets: KernelSockets;
  readonly firewall: ChosenBackend;
}
