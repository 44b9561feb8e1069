import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { annotation, endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import type { Check } from '../../telemetry/status-report.ts';
import { named } from './named.ts';

/**
 * Lists the labels of containers that do not become labels of their endpoints although the settings select them: a
 * policy that expects one selects nothing. They are no problem of the host, because Compose writes such labels.
 */
export function labelChecks({
  mirror,
  local,
}: {
  readonly mirror: LiveMirror;
  readonly local: LocalEndpoints;
}): readonly Check[] {
  if (!mirror.inSync) return [];
  const containers = new Map<string, Set<string>>();
  for (const id of local.all()) {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    const why = endpoint && annotation(endpoint, 'ignoredLabels');
    if (endpoint === undefined || why === undefined) continue;
    containers.set(why, (containers.get(why) ?? new Set()).add(endpointTitle(endpoint)));
  }
  return [...containers].map(([why, names]) => ({
    name: 'ignored labels',
    ok: true,
    detail: `${named('container', [...names].toSorted())}: ${why}`,
  }));
}
