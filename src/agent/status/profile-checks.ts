import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { isIsolationProfileName } from '../../driver/networks/network-profile.ts';
import { profilesOfNetwork } from '../../driver/networks/profile-users.ts';
import { isDefaultAllow } from '../../model/kinds/profile.ts';
import { dockerNameOf } from '../../model/names.ts';
import { endpointAnnotations, endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import type { CompiledPolicy } from '../../profiles/compile/compiled-policy.ts';
import { policyKey, profilePolicy } from '../../ruleset/policy.ts';
import type { Check } from '../../telemetry/status-report.ts';
import { named } from './named.ts';

interface Users {
  readonly containers: string[];
  readonly networks: string[];
}

/**
 * Reports Profiles of this host's containers and networks that deny all traffic because they do not exist or the policy
 * engine cannot enforce them (`problems`). Profiles not used on this host are not reported.
 */
export function profileChecks(
  { mirror, node, local }: { mirror: LiveMirror; node: string; local: LocalEndpoints },
  problems: ReadonlyMap<string, CompiledPolicy>,
): readonly Check[] {
  // Networks are unknown until the datastore was read.
  if (!mirror.inSync) return [];
  return [...usersOfProfiles(mirror, node, local)].flatMap(([profile, users]) => {
    if (!isDefaultAllow(profile) && mirror.get('Profile', profile) === undefined)
      return [missing(profile, users)];
    const { problem } = problems.get(policyKey(profilePolicy(profile))) ?? {};
    const why = problem?.replace(/^Profile \S+ /, '');
    if (why === undefined || users.containers.length === 0) return [];
    return [
      {
        name: `Profile ${dockerNameOf(profile)}`,
        ok: false,
        detail: `${why}; all traffic of ${named('container', users.containers)} is denied`,
        remedy: 'Fix the Profile: calico-cnm apply.',
      },
    ];
  });
}

function missing(profile: string, { containers, networks }: Users): Check {
  const name = dockerNameOf(profile);
  const affected = [
    ...(containers.length === 0 ? [] : [named('container', containers)]),
    ...(networks.length === 0 ? [] : [`every container of ${named('network', networks)}`]),
  ];
  return {
    name: `Profile ${name}`,
    ok: false,
    detail: `does not exist; all traffic of ${affected.join(', and of ')} is denied`,
    remedy: isIsolationProfileName(profile)
      ? 'It isolates an --internal network: recreate that network.'
      : `Add it: calico-cnm profile add ${name}`,
  };
}

function usersOfProfiles(
  mirror: LiveMirror,
  node: string,
  local: LocalEndpoints,
): ReadonlyMap<string, Users> {
  const found = new Map<string, Users>();
  const usersOf = (profile: string) => {
    const users = found.get(profile) ?? { containers: [], networks: [] };
    found.set(profile, users);
    return users;
  };
  for (const id of local.all()) {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    if (endpoint === undefined) continue;
    const networkId = endpoint.metadata.annotations?.[endpointAnnotations.network] ?? '';
    const network = mirror.get('DockerNetwork', `${node}/${networkId}`)?.value.name;
    const on = network === undefined ? '' : ` (network ${network})`;
    for (const profile of endpoint.spec.profiles ?? []) {
      usersOf(profile).containers.push(`${endpointTitle(endpoint)}${on}`);
    }
  }
  for (const { value } of mirror.list('DockerNetwork').values()) {
    if (value.node !== node || value.name === undefined) continue;
    for (const profile of profilesOfNetwork(value)) usersOf(profile).networks.push(value.name);
  }
  return found;
}
