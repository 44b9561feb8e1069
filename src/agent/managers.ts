import { HostRuleSettings } from './host-rule-settings.ts';
import type { Manager } from './manager.ts';
import type { ManagerDeps } from './manager-deps.ts';
import { BgpGuard } from './managers/bgp-guard.ts';
import { BlockRoutesManager } from './managers/block-routes.ts';
import { SandboxRoutes } from './managers/sandbox-routes.ts';
import { ContainerNames } from './managers/container-names.ts';
import { DomainSets } from './managers/domain-sets.ts';
import { DropCounterUpkeep } from './managers/drop-counters.ts';
import { EndpointRoutes } from './managers/endpoint-routes.ts';
import { ConntrackPolicyFlusher } from './managers/conntrack-policy-flusher.ts';
import { GuardedIpv6Forwarding } from './managers/ipv6-forwarding.ts';
import { HostEndpointsManager } from './managers/host-endpoints.ts';
import { NatMembers } from './managers/nat-members.ts';
import { Policy } from './managers/policy.ts';
import { PublishedPorts } from './managers/published-ports.ts';
import { SavedHostRules } from './managers/saved-host-rules.ts';
import { StaticRules } from './managers/static-rules.ts';
import { Tunnels } from './managers/tunnels.ts';

/** All managers, and by name those that others use. */
export interface Managers {
  readonly policy: Policy;
  readonly ports: PublishedPorts;
  readonly routes: EndpointRoutes;
  readonly blockRoutes: BlockRoutesManager;
  readonly bgpGuard: BgpGuard;
  readonly containers: SandboxRoutes;
  readonly counters: DropCounterUpkeep;
  readonly hostEndpoints: HostEndpointsManager;
  /** In the order of change events, of calls in a phase, and of checks in `status`. */
  readonly all: readonly Manager[];
}

export function createManagers(deps: ManagerDeps): Managers {
  const { kernel, families, statics } = deps;
  const hostRules = new HostRuleSettings(kernel.rules, families, statics);
  const policy = new Policy({ ...deps, hostRules });
  const ports = new PublishedPorts(deps);
  const routes = new EndpointRoutes(deps);
  const blockRoutes = new BlockRoutesManager(deps);
  const bgpGuard = new BgpGuard({ ...deps, hostRules });
  const containers = new SandboxRoutes(deps);
  const counters = new DropCounterUpkeep(deps, containers);
  const domains = new DomainSets(deps, policy.engine);
  const hostEndpoints = new HostEndpointsManager(deps, policy.engine);
  const all: readonly Manager[] = [
    new StaticRules({ kernel, hostRules }),
    new GuardedIpv6Forwarding({ ...deps, hostRules }),
    policy,
    domains,
    hostEndpoints,
    new NatMembers(deps),
    new Tunnels({ ...deps, hostRules }),
    bgpGuard,
    counters,
    ports,
    new ConntrackPolicyFlusher({ ...deps, domains }, policy.engine),
    routes,
    blockRoutes,
    containers,
    new ContainerNames({ ...deps, domains }),
    new SavedHostRules(deps, () => policy.guardedStages),
  ];
  const ofHost = { bgpGuard, hostEndpoints };
  return { policy, ports, routes, blockRoutes, ...ofHost, containers, counters, all };
}
