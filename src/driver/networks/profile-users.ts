import type { Draft } from '../../datastore/writer.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { resourceNameFor } from '../../model/names.ts';
import { containerName, endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import { networkIsolation, networkProfiles, profileOfNamespace } from './network-profile.ts';

/**
 * Returns the users of a Profile: `network web of host-1`, `container app`, or `endpoint …` if its container is
 * unknown.
 */
export function profileUsers(draft: Draft, profile: string): readonly string[] {
  const users: string[] = [];
  for (const [, network] of draft.entries('DockerNetwork')) {
    if (!profilesOfNetwork(network).includes(profile)) continue;
    users.push(`network ${network.name ?? network.id.slice(0, 12)} of ${network.node}`);
  }
  for (const [, endpoint] of draft.entries('WorkloadEndpoint')) {
    if (endpoint.spec.profiles?.includes(profile) !== true) continue;
    const container = containerName(endpoint);
    users.push(container === undefined ? endpointTitle(endpoint) : `container ${container}`);
  }
  return [...new Set(users)];
}

/** Returns the IDs of the networks of all hosts that have a Profile. */
export function networksWithProfile(draft: Draft, profile: string): readonly string[] {
  const ids: string[] = [];
  for (const [id, network] of draft.entries('DockerNetwork')) {
    if (profilesOfNetwork(network).includes(profile)) ids.push(id);
  }
  return ids;
}

/** Reports whether an endpoint of any host has a Profile. */
export function hasEndpointWithProfile(draft: Draft, profile: string): boolean {
  for (const [, { profiles }] of draft.briefs('WorkloadEndpoint')) {
    if (profiles.includes(profile)) return true;
  }
  return false;
}

/** The Profiles that a network gives its containers, with its isolation and that of its namespace. */
export function profilesOfNetwork(network: DockerNetwork): readonly string[] {
  return [
    ...networkProfiles(network).map(resourceNameFor),
    ...networkIsolation(network),
    ...profileOfNamespace(network),
  ];
}
