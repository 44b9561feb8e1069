import type { Draft } from '../../datastore/writer.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { resourceNameFor } from '../../model/names.ts';
import {
  isUneditedDriverProfile,
  isolationProfile,
  isolationProfileName,
  networkProfile,
} from './network-profile.ts';
import { isProfileInUse, profilesOfNetwork } from './profile-users.ts';
import type { Stamp } from '../../model/stamp.ts';

/**
 * Makes the Profiles that a network's name stands for, where they are missing. Whoever removes one at this moment
 * looks for networks that go by it, and finds that one came.
 */
export function ensureNetworkProfiles(draft: Draft, network: DockerNetwork, stamp: Stamp): void {
  if (network.name === undefined) return;
  const wanted = [
    ...(network.options.profiles === undefined ? [networkProfile(network.name)] : []),
    ...(network.internal ? [isolationProfile(network.name)] : []),
  ];
  for (const profile of wanted) {
    const { name } = profile.metadata;
    if (draft.get('Profile', name) === undefined) draft.put('Profile', name, stamp(profile));
    else draft.expect('Profile', name);
  }
}

/**
 * Removes the Profiles of a network that is gone from the draft, if the driver made them, nobody edited them
 * and no network of any host nor any endpoint goes by them.
 */
export function dropNetworkProfiles(draft: Draft, gone: DockerNetwork): void {
  if (gone.name === undefined) return;
  for (const name of [resourceNameFor(gone.name), isolationProfileName(gone.name)]) {
    const profile = draft.get('Profile', name);
    if (profile === undefined || !isUneditedDriverProfile(profile)) continue;
    if (!isProfileInUse(draft, name)) draft.remove('Profile', name);
  }
}

/**
 * The Profiles that the driver made, that nobody edited, and that no network of any host nor any endpoint goes by: a
 * network that goes before its last endpoint, as Docker removes them after a crash, leaves such a one.
 */
export function leakedProfiles(draft: Draft): readonly string[] {
  const found = new Set<string>();
  for (const [name, profile] of draft.entries('Profile')) {
    if (isUneditedDriverProfile(profile)) found.add(name);
  }
  // Its users are looked up only for the few that may have none.
  for (const [, network] of draft.entries('DockerNetwork')) {
    for (const name of profilesOfNetwork(network)) found.delete(name);
  }
  if (found.size === 0) return [];
  for (const [, { profiles }] of draft.briefs('WorkloadEndpoint')) {
    for (const name of profiles) found.delete(name);
  }
  return [...found];
}

/** Removes those of the Profiles that still are ownerless; a network that comes meanwhile keeps its own. */
export function reclaimProfiles(draft: Draft, names: ReadonlySet<string>): readonly string[] {
  const dropped = leakedProfiles(draft).filter((name) => names.has(name));
  // The networks were looked through: whoever makes one meanwhile makes this commit fail.
  for (const name of dropped) draft.remove('Profile', name);
  return dropped;
}
