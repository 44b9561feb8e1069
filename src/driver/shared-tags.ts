import { isDeepStrictEqual } from 'node:util';
import type { Draft } from '../datastore/writer.ts';
import { tagsOf } from './endpoint-policy.ts';
import { withSharedTags } from './endpoint-record.ts';

/**
 * Gives each endpoint of one container the tags of the others' Profiles; writes only what changes. The ids
 * are those of the container's endpoints; ids that are gone are passed over.
 */
export function shareTags(draft: Draft, endpointIds: readonly string[]): void {
  const endpoints = endpointIds.flatMap((id) => {
    const endpoint = draft.get('WorkloadEndpoint', id);
    return endpoint === undefined ? [] : [{ id, endpoint }];
  });
  for (const { id, endpoint } of endpoints) {
    const others = endpoints.filter((other) => other.id !== id);
    const profiles = others.flatMap((other) => other.endpoint.spec.profiles ?? []);
    const shared = withSharedTags(
      endpoint,
      tagsOf(profiles, (name) => draft.get('Profile', name)),
    );
    if (!isDeepStrictEqual(shared, endpoint)) draft.put('WorkloadEndpoint', id, shared);
  }
}
