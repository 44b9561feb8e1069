import { isDeepStrictEqual } from 'node:util';
import { backoffMs, pause } from '../../async/deadline.ts';
import type { Mirror } from '../../datastore/mirror.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import { describe } from '../../errors/error.ts';
import type { Profile } from '../../model/profile.ts';
import { profileTags } from '../../model/profile.ts';
import type { Logger } from '../../telemetry/log.ts';
import { tagsOf } from './endpoint-policy.ts';
import { annotation, withSharedTags } from './endpoint-record.ts';
import type { LocalEndpoints } from './local-endpoints.ts';

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

/** Shares tags anew when a Profile of a running container gets or loses one; until the signal is aborted. */
export function keepTagsShared(
  deps: {
    readonly mirror: Mirror;
    readonly writer: Writer;
    readonly local: LocalEndpoints;
    readonly log: Logger;
  },
  signal: AbortSignal,
): void {
  const { mirror, writer, local, log } = deps;
  const stop = mirror.subscribe(({ changes }) => {
    const changed = new Set<string>();
    for (const change of changes) {
      const isTagged =
        change.kind === 'Profile' && !sameTags(change.before?.value, change.now?.value);
      if (isTagged) changed.add(change.id);
    }
    if (changed.size === 0) return;
    for (const sandbox of sandboxesWith(changed, { mirror, local })) void share(sandbox);
  });
  const share = async (sandbox: string): Promise<void> => {
    for (const delayMs of backoffMs(1000, 30_000)) {
      try {
        await writer.write((draft) => shareTags(draft, local.ofSandbox(sandbox)), signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.warn('tags could not be shared; it is tried again', { why: describe(error) });
        await pause(delayMs, signal);
      }
    }
  };
  signal.addEventListener('abort', stop, { once: true });
}

/** The containers with several endpoints, one of which has one of the Profiles. */
function sandboxesWith(
  profiles: ReadonlySet<string>,
  { mirror, local }: { readonly mirror: Mirror; readonly local: LocalEndpoints },
): ReadonlySet<string> {
  const found = new Set<string>();
  for (const id of local.all()) {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    const sandbox = endpoint && annotation(endpoint, 'sandbox');
    if (sandbox === undefined || local.ofSandbox(sandbox).length < 2) continue;
    if (endpoint?.spec.profiles?.some((name) => profiles.has(name)) === true) found.add(sandbox);
  }
  return found;
}

function sameTags(before: Profile | undefined, now: Profile | undefined): boolean {
  const tags = (profile: Profile | undefined) =>
    profile === undefined ? '' : profileTags(profile).toSorted().join();
  return tags(before) === tags(now);
}
