import type { Supervisor } from '../async/supervise.ts';
import type { HeldHostPorts } from '../dataplane/held-host-ports.ts';
import type { Ipv6Forwarding } from '../dataplane/host-settings.ts';
import type { ChosenBackend } from '../dataplane/iptables/backend.ts';
import type { ToolRunner } from '../dataplane/process.ts';
import type { Mirror } from '../cache/mirror.ts';
import type { IpFamily } from '../ip/address.ts';
import type { StaticOptions } from '../profiles/static-chains.ts';
import type { Logger } from '../telemetry/log.ts';
import type { KernelSockets } from '../dataplane/kernel-sockets.ts';

/** What the agent works with. */
export interface AgentDeps {
  readonly node: string;
  readonly mirror: Mirror;
  readonly log: Logger;
  readonly supervisor: Supervisor;
  readonly runner: ToolRunner;
  readonly sockets: KernelSockets;
  readonly heldPorts: HeldHostPorts;
  readonly firewall: ChosenBackend;
  readonly families: readonly IpFamily[];
  readonly statics: StaticOptions;
  readonly ipv6Forwarding: Ipv6Forwarding;
  /** Whether flows end when the rule that allowed them is removed. */
  readonly endsForbiddenFlows: boolean;
}
