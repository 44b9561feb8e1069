import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { isInheritedLabel } from '../../model/fields.ts';
import { labelValueFor, resourceNameFor } from '../../model/names.ts';
import { profileTags, type Profile } from '../../model/kinds/profile.ts';
import {
  networkIsolation,
  networkProfiles,
  profileOfNamespace,
} from '../networks/network-profile.ts';
import { builtInLabels } from './built-in-labels.ts';
import {
  copiedLabels,
  portsOfLabels,
  type ContainerPort,
  type LabelFilter,
} from './container-labels.ts';
import { mergeSelections, selectionFromLabels, type Selection } from './selection.ts';

/** Docker's description of the container of an endpoint. */
export interface Container {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The Profiles of an endpoint in order, its labels and named ports, and the problems of the container's labels. */
export interface EndpointPolicy {
  readonly profiles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly ContainerPort[];
  readonly problems: readonly string[];
}

/**
 * Returns the policy input of an endpoint: the Profiles selected by the container, then those of its network (an
 * internal network's isolation first, that of its namespace last); the labels of the container, its connection and its
 * network. Without Docker's
 * description of the container, its own selection is missing.
 */
export function endpointPolicy(
  network: DockerNetwork,
  connection: Selection,
  { container, isTaken }: { readonly container?: Container; readonly isTaken: LabelFilter },
): EndpointPolicy {
  const given = container?.labels ?? {};
  const { selection: own, problems } = selectionFromLabels(given, isTaken);
  const copied = copiedLabels(given, isTaken);
  const { ports, problems: ofPorts } = portsOfLabels(given);
  const chosen = mergeSelections(connection, own);
  const names = [...chosen.profiles, ...networkProfiles(network)].map(resourceNameFor);
  const builtIn = Object.entries(builtInOf(network, container)).filter(([key]) => isTaken(key));
  return {
    profiles: [
      ...new Set([...networkIsolation(network), ...names, ...profileOfNamespace(network)]),
    ],
    labels: {
      ...network.options.labels,
      ...copied.labels,
      ...chosen.labels,
      ...Object.fromEntries(builtIn),
    },
    ports,
    problems: [...problems, ...copied.problems, ...ofPorts],
  };
}

/** Returns the tags that Profiles give their endpoints, which the other endpoints of the container also carry. */
export function tagsOf(
  profiles: readonly string[],
  profile: (name: string) => Profile | undefined,
): readonly string[] {
  const tags = profiles.flatMap((name) => {
    const found = profile(name);
    return found === undefined ? [] : profileTags(found).filter((tag) => !isInheritedLabel(tag));
  });
  return [...new Set(tags)].toSorted();
}

function builtInOf(
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
