import type { Draft } from '../../datastore/writer.ts';
import {
  annotation,
  endpointAddresses,
  endpointTitle,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { detach } from '../../workload/attach.ts';
import { dropOwnerlessProfiles } from '../networks/profiles-of-networks.ts';
import { networkEntryId } from '../networks/networks.ts';
import type { EndpointRequest } from '../plugin/messages.ts';
import { endpointEntryId } from './endpoint-record.ts';
import type { EndpointsDeps } from './endpoints-deps.ts';
import { shareTags } from './shared-tags.ts';

/** Removes the container's link and the endpoint with all that only it held; nothing if there is none. */
export async function removeEndpoint(
  deps: EndpointsDeps,
  { EndpointID: endpointId }: EndpointRequest,
  signal: AbortSignal,
): Promise<void> {
  const write = (draft: Draft) => removePlan(deps, draft, endpointId);
  const removed = await detach(deps, { endpointId, write }, signal);
  if (removed === undefined) return;
  deps.log.info('endpoint removed', {
    container: endpointTitle(removed),
    endpoint: endpointId,
    address: endpointAddresses(removed),
  });
}

function removePlan(
  { node, addresses, local }: EndpointsDeps,
  draft: Draft,
  endpointId: string,
): WorkloadEndpoint | undefined {
  const id = endpointEntryId(node, endpointId);
  const endpoint = draft.get('WorkloadEndpoint', id);
  if (endpoint === undefined) return undefined;
  draft.remove('WorkloadEndpoint', id);
  const networkId = annotation(endpoint, 'network');
  const network = draft.get('DockerNetwork', networkEntryId(node, networkId ?? ''));
  const held = endpointAddresses(endpoint);
  if (network !== undefined) {
    addresses.releaseEndpoint(draft, { node, network, endpointId, addresses: held });
  }
  // Endpoints of ours always say their network; those of the plugin of 2019 never did.
  if (networkId === undefined) addresses.releaseAdopted(draft, held);
  const sandbox = annotation(endpoint, 'sandbox');
  if (sandbox !== undefined) shareTags(draft, local.ofSandbox(sandbox));
  // A network that went before its last endpoint could not take its Profiles with it.
  if (network === undefined) dropOwnerlessProfiles(draft, new Set(endpoint.spec.profiles));
  return endpoint;
}
