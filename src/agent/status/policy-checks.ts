import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import { policyTitle, type CompiledPolicy } from '../../profiles/compile/compiled-policy.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import { policyKey, resourceKey, type StackTier } from '../../ruleset/policy.ts';
import type { Check } from '../../telemetry/status-report.ts';
import { named } from './named.ts';

/**
 * Reports policies that deny all traffic of containers or interfaces of this host, because they cannot be enforced.
 * Policies that select none are not reported; of Profiles, `profileChecks` does.
 */
export function policyChecks(
  { mirror, local }: { readonly mirror: LiveMirror; readonly local: LocalEndpoints },
  engine: Pick<PolicyEngine, 'problems' | 'stackOf' | 'hostEndpoints' | 'hostTiersOf'>,
): readonly Check[] {
  if (!mirror.inSync) return [];
  const problems = engine.problems();
  const users = new Map<string, Users>();
  const use = (tiers: readonly StackTier[], add: (users: Users) => void) => {
    const ids = tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]);
    for (const key of new Set(ids.map(policyKey))) {
      const policy = problems.get(key);
      if (policy === undefined || policy.id.kind === 'Profile') continue;
      const resource = resourceKey(policy.id);
      const known = users.get(resource) ?? { policy, containers: new Set(), hosts: new Set() };
      users.set(resource, known);
      add(known);
    }
  };
  if (problems.size === 0) return [];
  for (const id of local.all()) {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    if (endpoint === undefined) continue;
    use(engine.stackOf(endpoint).tiers, ({ containers }) =>
      containers.add(endpointTitle(endpoint)),
    );
  }
  for (const id of engine.hostEndpoints()) {
    const { untracked, preDnat, local: toHost } = engine.hostTiersOf(id);
    use([...untracked, ...preDnat, ...toHost], ({ hosts }) => hosts.add(id));
  }
  return [...users.values()]
    .map(({ policy: { id, problem = '' }, containers, hosts }) => {
      const name = policyTitle(id);
      const of = [
        ...(containers.size === 0 ? [] : [named('container', [...containers])]),
        ...(hosts.size === 0 ? [] : [named('host endpoint', [...hosts])]),
      ].join(' and ');
      return {
        name,
        ok: false,
        detail: `${problem.replace(`${name}: `, '')}; it denies all traffic that it applies to of ${of}`,
        remedy: 'Fix the policy: calico-cnm apply. Or delete it: calico-cnm delete.',
      };
    })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** What of this host a policy denies. */
interface Users {
  readonly policy: CompiledPolicy;
  readonly containers: Set<string>;
  readonly hosts: Set<string>;
}
