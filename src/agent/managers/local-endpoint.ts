import type { EntryChange } from '../../cache/mirror.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { isWorkloadInterface } from '../../ruleset/names.ts';

/** Whether an endpoint's interface is a container's, and none of the host's own, whose settings are not ours. */
export function hasLocalInterface(endpoint: WorkloadEndpoint | undefined): boolean {
  return endpoint !== undefined && isWorkloadInterface(endpoint.spec.interfaceName);
}

/** The endpoint as it is now, if it is one of this host; whatever its interface is. */
export function endpointOf(
  node: string,
  { now }: EntryChange<'WorkloadEndpoint'>,
): WorkloadEndpoint | undefined {
  return now?.value.spec.node === node ? now.value : undefined;
}

/** The endpoint as it is now, if it is one of this host with an interface that is a container's. */
export function localEndpoint(
  node: string,
  change: EntryChange<'WorkloadEndpoint'>,
): WorkloadEndpoint | undefined {
  const endpoint = endpointOf(node, change);
  return hasLocalInterface(endpoint) ? endpoint : undefined;
}
