import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { labelValueFor, resourceNameFor } from '../../model/names.ts';
import { profileTags, type Profile } from '../../model/kinds/profile.ts';
import { networkIsolation, networkProfiles } from '../networks/network-profile.ts';
import { mergeSelections, selectionFromLabels, type Selection } from './selection.ts';

/** What Docker says of the container behind an endpoint. */
export interface Container {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Labels that every endpoint has of itself; the values are Docker's names, mapped where Calico needs it. */
export const builtInLabels = {
  network: 'com.docker.network.name',
  container: 'com.docker.container.name',
  composeProject: 'com.docker.compose.project',
  composeService: 'com.docker.compose.service',
} as const;

/** The Profiles of an endpoint in their order, its labels, and what is wrong with the container's labels. */
export interface EndpointPolicy {
  readonly profiles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly problems: readonly string[];
}

/**
 * What an endpoint is for policy: the Profiles that the container chose, then those of its network (an
 * internal network's isolation before all); the labels of the container, its connection and its network.
 * Before Docker has told the container, its own choice is missing.
 */
export function endpointPolicy(
  network: DockerNetwork,
  connection: Selection,
  container: Container | undefined,
): EndpointPolicy {
  const { selection: own, problems } = selectionFromLabels(container?.labels ?? {});
  const chosen = mergeSelections(connection, own);
  const names = [...chosen.profiles, ...networkProfiles(network)].map(resourceNameFor);
  return {
    profiles: [...new Set([...networkIsolation(network), ...names])],
    labels: { ...network.options.labels, ...chosen.labels, ...builtIn(network, container) },
    problems,
  };
}

/** The tags that Profiles give their endpoints: what the other endpoints of the container carry, too. */
export function tagsOf(
  profiles: readonly string[],
  profile: (name: string) => Profile | undefined,
): readonly string[] {
  const tags = profiles.flatMap((name) => {
    const found = profile(name);
    return found === undefined ? [] : profileTags(found);
  });
  return [...new Set(tags)].toSorted();
}

function builtIn(
  network: DockerNetwork,
  container: Container | undefined,
): Readonly<Record<string, string>> {
  const { composeProject, composeService } = builtInLabels;
  const compose = [composeProject, composeService].flatMap((key) => {
    const value = container?.labels[key];
    return value === undefined ? [] : [[key, labelValueFor(value)] as const];
  });
  return {
    ...(network.name === undefined ? {} : { [builtInLabels.network]: labelValueFor(network.name) }),
    ...(container === undefined
      ? {}
      : { [builtInLabels.container]: labelValueFor(container.name) }),
    ...Object.fromEntries(compose),
  };
}
