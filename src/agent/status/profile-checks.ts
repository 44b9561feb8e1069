import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { isIsolationProfileName } from '../../driver/networks/network-profile.ts';
import { profilesOfNetwork } from '../../driver/networks/profile-users.ts';
import { isDefaultAllow } from '../../model/kinds/profile.ts';
import { dockerNameOf } from '../../model/names.ts';
import { endpointAnnotations, endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** How many containers, and how many networks, a check names. */
const maxNamed = 5;

interface Users {
  readonly containers: string[];
  readonly networks: string[];
}

/**
 * Profiles of this host's containers and networks that deny all traffic: those that do not exist, and those that
 * the policy engine cannot enforce (`problems`). Profiles that nobody here uses are not told of.
 */
export function profileChecks(
  { mirror, node, local }: { mirror: LiveMirror; node: string; local: LocalEndpoints },
  problems: ReadonlyMap<string, string>,
): readonly Check[] {
  // Nothing is known of networks before the datastore was read.
  if (!mirror.inSync) return [];
  return [...usersOfProfiles(mirror, node, local)].flatMap(([profile, users]) => {
    if (!isDefaultAllow(profile) && mirror.get('Profile', profile) === undefined)
      return [missing(profile, users)];
    const why = problems.get(profile)?.replace(/^Profile \S+ /, '');
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
  const concerned = [
    ...(containers.length === 0 ? [] : [named('container', containers)]),
    ...(networks.length === 0 ? [] : [`every container of ${named('network', networks)}`]),
  ];
  return {
    name: `Profile ${name}`,
    ok: false,
    detail: `does not exist; all traffic of ${concerned.join(', and of ')} is denied`,
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

/** `container a`, `containers a, b`, or the first of many and how many more. */
function named(what: string, names: readonly string[]): string {
  const sorted = names.toSorted();
  const shown = sorted.slice(0, maxNamed).join(', ');
  const more = sorted.length - maxNamed;
  const rest = more > 0 ? ` and ${more} more` : '';
  return `${what}${sorted.length === 1 ? '' : 's'} ${shown}${rest}`;
}
