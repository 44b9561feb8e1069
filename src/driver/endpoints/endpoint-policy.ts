import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { labelValueFor, resourceNameFor } from '../../model/names.ts';
import { profileTags, type Profile } from '../../model/kinds/profile.ts';
import { networkIsolation, networkProfiles } from '../networks/network-profile.ts';
import { mergeSelections, selectionFromLabels, type Selection } from './selection.ts';

/** Docker's description of the container of an endpoint. */
export interface Container {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Labels of every endpoint; the values are Docker's names, mapped where Calico requires it. */
export const builtInLabels = {
  network: 'com.docker.network.name',
  container: 'com.docker.container.name',
  composeProject: 'com.docker.compose.project',
  composeService: 'com.docker.compose.service',
} as const;

/** The Profiles of an endpoint in order, its labels, and the problems of the container's labels. */
export interface EndpointPolicy {
  readonly profiles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly problems: readonly string[];
}

/**
 * Returns the policy input of an endpoint: the Profiles selected by the container, then those of its network (an
 * internal network's isolation first); the labels of the container, its connection and its network. Without Docker's
 * description of the container, its own selection is missing.
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

/** Returns the tags that Profiles give their endpoints, which the other endpoints of the container also carry. */
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
