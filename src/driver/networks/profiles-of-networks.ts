import type { Draft } from '../../datastore/writer.ts';
import type { DockerNetwork } from '../../model/docker-network.ts';
import { resourceNameFor } from '../../model/names.ts';
import {
  isUneditedDriverProfile,
  isolationProfile,
  isolationProfileName,
  networkProfile,
} from './network-profile.ts';
import { profileUsers } from './profile-users.ts';
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
    if (profileUsers(draft, name).length === 0) draft.remove('Profile', name);
  }
}
