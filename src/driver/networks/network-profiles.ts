import { expectUser } from '../../datastore/expect-user.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { resourceNameFor } from '../../model/names.ts';
import {
  isUneditedDriverProfile,
  isolationProfile,
  isolationProfileName,
  namespaceProfile,
  networkProfile,
  profileOfNamespace,
} from './network-profile.ts';
import { hasEndpointWithProfile, networksWithProfile, profilesOfNetwork } from './profile-users.ts';
import type { Stamp } from '../../model/stamp.ts';

/**
 * Creates the missing Profiles of a network. Anyone who deletes one at this moment checks for networks that use it,
 * and finds the new network.
 */
export function ensureNetworkProfiles(draft: Draft, network: DockerNetwork, stamp: Stamp): void {
  const { name: dockerName, internal, options } = network;
  const { namespace } = options;
  const wanted = [
    ...(namespace === undefined ? [] : [namespaceProfile(namespace)]),
    ...(dockerName === undefined || options.profiles !== undefined
      ? []
      : [networkProfile(dockerName)]),
    ...(dockerName === undefined || !internal ? [] : [isolationProfile(dockerName)]),
  ];
  for (const profile of wanted) {
    const { name } = profile.metadata;
    if (draft.get('Profile', name) === undefined) draft.put('Profile', name, stamp(profile));
    else draft.expect('Profile', name);
  }
}

/**
 * Deletes the Profiles of a removed network from the draft, if the driver created them, nobody edited them, and no
 * network of any host nor any endpoint uses them.
 */
export function dropNetworkProfiles(draft: Draft, gone: DockerNetwork): void {
  const own =
    gone.name === undefined ? [] : [resourceNameFor(gone.name), isolationProfileName(gone.name)];
  for (const name of [...own, ...profileOfNamespace(gone)]) {
    const profile = draft.get('Profile', name);
    if (profile === undefined || !isUneditedDriverProfile(profile)) continue;
    const users = networksWithProfile(draft, name);
    if (users.length > 0) {
      expectUser(draft, 'DockerNetwork', { own: `${gone.node}/${gone.id}`, users });
    } else if (!hasEndpointWithProfile(draft, name)) draft.remove('Profile', name);
  }
}

/**
 * Returns the unedited Profiles created by the driver that no network of any host nor any endpoint uses. A network
 * removed before its last endpoint, as Docker does after a crash, leaves such a Profile.
 */
export function leakedProfiles(draft: Draft): readonly string[] {
  const found = new Set<string>();
  for (const [name, profile] of draft.entries('Profile')) {
    if (isUneditedDriverProfile(profile)) found.add(name);
  }
  // The users are looked up only for the few that may have none.
  for (const [, network] of draft.entries('DockerNetwork')) {
    for (const name of profilesOfNetwork(network)) found.delete(name);
  }
  if (found.size === 0) return [];
  for (const [, { profiles }] of draft.briefs('WorkloadEndpoint')) {
    for (const name of profiles) found.delete(name);
  }
  return [...found];
}

/** Deletes those of the Profiles that are still leaks; a network created meanwhile keeps its own. */
export function reclaimProfiles(draft: Draft, names: ReadonlySet<string>): readonly string[] {
  const dropped = leakedProfiles(draft).filter((name) => names.has(name));
  // The networks were scanned: if one is created meanwhile, this commit fails.
  for (const name of dropped) draft.remove('Profile', name);
  return dropped;
}
