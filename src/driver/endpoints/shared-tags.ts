import { isDeepStrictEqual } from 'node:util';
import { backoffMs, pause } from '../../async/deadline.ts';
import type { Work } from '../../async/supervise.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import { profileTags } from '../../model/kinds/profile.ts';
import { tagsOf } from './endpoint-policy.ts';
import { withSharedTags } from './endpoint-record.ts';
import type { LocalEndpoints } from './local-endpoints.ts';
import { annotation } from '../../model/kinds/workload-endpoint.ts';

const firstRetryMs = 250;
const longestRetryMs = 5000;

/**
 * Gives each endpoint of one container the tags of the others' Profiles; writes only changes. The IDs are those of the
 * container's endpoints; IDs that do not exist any more are skipped.
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

/**
 * Shares tags again when a Profile of a running container gains or loses one, until the signal is aborted. Retries
 * failed writes; after a restart of the loop it checks all containers.
 */
export async function keepTagsShared(
  deps: {
    readonly mirror: Mirror;
    readonly writer: Writer;
    readonly local: LocalEndpoints;
    readonly work: Work;
  },
  signal: AbortSignal,
): Promise<void> {
  const { mirror, writer, local, work } = deps;
  const waiting = new Set<string>(
    mirror.inSync ? sandboxesWith(() => true, { mirror, local }) : [],
  );
  let wake = (): void => undefined;
  const onAbort = () => wake();
  const unsubscribe = mirror.subscribe(({ changes }) => {
    const changed = new Set<string>();
    for (const change of changes) {
      const isTagged =
        change.kind === 'Profile' && !sameTags(change.before?.value, change.now?.value);
      if (isTagged) changed.add(change.id);
    }
    if (changed.size === 0) return;
    for (const sandbox of sandboxesWith((name) => changed.has(name), { mirror, local })) {
      waiting.add(sandbox);
    }
    wake();
  });
  signal.addEventListener('abort', onAbort);
  let delays = backoffMs(firstRetryMs, longestRetryMs);
  try {
    while (!signal.aborted) {
      const next = [...waiting];
      waiting.clear();
      const plans = next.map(async (sandbox): Promise<boolean> => {
        try {
          await writer.write((draft) => shareTags(draft, local.ofSandbox(sandbox)), signal);
          return false;
        } catch (error) {
          if (!signal.aborted) work.failed(error);
          waiting.add(sandbox);
          return true;
        }
      });
      const failed = await Promise.all(plans);
      if (failed.includes(true)) {
        await pause(delays.next().value, signal);
      } else if (waiting.size === 0) {
        work.succeeded();
        delays = backoffMs(firstRetryMs, longestRetryMs);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    unsubscribe();
    signal.removeEventListener('abort', onAbort);
  }
}

/** Returns the containers with several endpoints, one of which has such a Profile. */
function sandboxesWith(
  isSuch: (profile: string) => boolean,
  { mirror, local }: { readonly mirror: Mirror; readonly local: LocalEndpoints },
): ReadonlySet<string> {
  const found = new Set<string>();
  for (const id of local.all()) {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    const sandbox = endpoint && annotation(endpoint, 'sandbox');
    if (sandbox === undefined || local.ofSandbox(sandbox).length < 2) continue;
    if (endpoint?.spec.profiles?.some(isSuch) === true) found.add(sandbox);
  }
  return found;
}

function sameTags(before: Profile | undefined, now: Profile | undefined): boolean {
  const tags = (profile: Profile | undefined) =>
    profile === undefined ? '' : profileTags(profile).toSorted().join();
  return tags(before) === tags(now);
}
