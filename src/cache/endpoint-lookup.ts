import type { Draft } from '../datastore/writer.ts';
import { endpointName, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { View } from './view.ts';

/**
 * Docker's calls and the records of addresses name an endpoint by Docker's ID alone, while its key begins with the
 * namespace of its network, which may have been removed.
 */

/** An endpoint of this host, with its ID in the datastore. */
export interface FoundEndpoint {
  readonly id: string;
  readonly endpoint: WorkloadEndpoint;
}

/** Returns the WorkloadEndpoint of a Docker endpoint in a draft, whatever its namespace. */
export function endpointOf(
  draft: Pick<Draft, 'group'>,
  node: string,
  endpointId: string,
): FoundEndpoint | undefined {
  const name = endpointName(node, endpointId);
  for (const [id, endpoint] of draft.group('WorkloadEndpoint', name)) return { id, endpoint };
  return undefined;
}

/** Removes the WorkloadEndpoint of a Docker endpoint; does nothing if it is absent. */
export function removeEndpointOf(draft: Draft, node: string, endpointId: string): void {
  const found = endpointOf(draft, node, endpointId);
  if (found !== undefined) draft.remove('WorkloadEndpoint', found.id);
}

/** Returns the same as `endpointOf`, as the mirror has it. */
export function mirroredEndpoint(
  mirror: Pick<View, 'get' | 'group'>,
  node: string,
  endpointId: string,
): WorkloadEndpoint | undefined {
  for (const id of mirror.group('WorkloadEndpoint', endpointName(node, endpointId))) {
    return mirror.get('WorkloadEndpoint', id)?.value;
  }
  return undefined;
}
