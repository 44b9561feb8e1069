import { HostRuleSettings } from './host-rule-settings.ts';
import type { Manager } from './manager.ts';
import type { ManagerDeps } from './manager-deps.ts';
import { BlockRoutesManager } from './managers/block-routes.ts';
import { SandboxRoutes } from './managers/sandbox-routes.ts';
import { ContainerNames } from './managers/container-names.ts';
import { DropCounterUpkeep } from './managers/drop-counters.ts';
import { EndpointRoutes } from './managers/endpoint-routes.ts';
import { ConntrackPolicyFlusher } from './managers/conntrack-policy-flusher.ts';
import { GuardedIpv6Forwarding } from './managers/ipv6-forwarding.ts';
import { NatMembers } from './managers/nat-members.ts';
import { Policy } from './managers/policy.ts';
import { PublishedPorts } from './managers/published-ports.ts';
import { StaticRules } from './managers/static-rules.ts';
import { Vxlan } from './managers/vxlan.ts';

/** All managers, and by name those that others use. */
export interface Managers {
  readonly policy: Policy;
  readonly ports: PublishedPorts;
  readonly routes: EndpointRoutes;
  readonly blockRoutes: BlockRoutesManager;
  readonly containers: SandboxRoutes;
  readonly counters: DropCounterUpkeep;
  /** In the order of change events, of calls in a phase, and of checks in `status`. */
  readonly all: readonly Manager[];
}

export function createManagers(deps: ManagerDeps): Managers {
  const { kernel, families, statics } = deps;
  const hostRules = new HostRuleSettings(kernel.rules, families, statics);
  const policy = new Policy(deps);
  const ports = new PublishedPorts(deps);
  const routes = new EndpointRoutes(deps);
  const blockRoutes = new BlockRoutesManager(deps);
  const containers = new SandboxRoutes(deps);
  const counters = new DropCounterUpkeep(deps, containers);
  const all: readonly Manager[] = [
    new StaticRules({ kernel, hostRules }),
    new GuardedIpv6Forwarding({ ...deps, hostRules }),
    policy,
    new NatMembers(deps),
    new Vxlan({ ...deps, hostRules }),
    counters,
    ports,
    new ConntrackPolicyFlusher(deps, policy.engine),
    routes,
    blockRoutes,
    containers,
    new ContainerNames(deps),
  ];
  return { policy, ports, routes, blockRoutes, containers, counters, all };
}
