import type { Draft } from '../datastore/writer.ts';
import type { DockerNetwork } from '../model/docker-network.ts';
import { dockerNameOf, resourceNameFor } from '../model/names.ts';
import { isolationProfileName } from './network-profile.ts';

/** Who goes by a Profile, as people call them: `container app`, `network web of host-1`; networks first. */
export function profileUsers(draft: Draft, profile: string): readonly string[] {
  const users: string[] = [];
  for (const [, network] of draft.entries('DockerNetwork')) {
    if (!profilesOfNetwork(network).includes(profile)) continue;
    users.push(`network ${network.name ?? network.id.slice(0, 12)} of ${network.node}`);
  }
  for (const [, { spec }] of draft.entries('WorkloadEndpoint')) {
    if (spec.profiles?.includes(profile) !== true) continue;
    users.push(`container ${dockerNameOf(spec.workload ?? spec.endpoint.slice(0, 12))}`);
  }
  return [...new Set(users)];
}

/** The Profiles that a network gives its containers, its isolation among them. */
function profilesOfNetwork({ name, internal, options }: DockerNetwork): readonly string[] {
  if (name === undefined) return (options.profiles ?? []).map(resourceNameFor);
  return [
    ...(options.profiles ?? [name]).map(resourceNameFor),
    ...(internal ? [isolationProfileName(name)] : []),
  ];
}
