import type { EntryChange } from '../../cache/mirror.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { isWorkloadInterface } from '../../ruleset/names.ts';

/** Reports whether the interface of an endpoint belongs to a container; interfaces of the host keep their settings. */
export function hasLocalInterface(endpoint: WorkloadEndpoint | undefined): boolean {
  return endpoint !== undefined && isWorkloadInterface(endpoint.spec.interfaceName);
}

/** Returns the current endpoint if it is on this host, whatever its interface. */
export function endpointOf(
  node: string,
  { now }: EntryChange<'WorkloadEndpoint'>,
): WorkloadEndpoint | undefined {
  return now?.value.spec.node === node ? now.value : undefined;
}

/** Returns the current endpoint if it is on this host and its interface belongs to a container. */
export function localEndpoint(
  node: string,
  change: EntryChange<'WorkloadEndpoint'>,
): WorkloadEndpoint | undefined {
  const endpoint = endpointOf(node, change);
  return hasLocalInterface(endpoint) ? endpoint : undefined;
}
