import { endpointOf } from '../../cache/endpoint-lookup.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import {
  annotation,
  endpointAddresses,
  endpointPrefixes,
  endpointTitle,
  extraAddresses,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { describe } from '../../errors/error.ts';
import { detach, type WorkloadDeps } from '../../workload/attach.ts';
import { reclaimProfiles } from '../networks/network-profiles.ts';
import { networkEntryId } from '../networks/networks.ts';
import type { EndpointRequest } from '../plugin/messages.ts';
import type { EndpointsDeps } from './endpoints-deps.ts';
import { shareTags } from './shared-tags.ts';

/** Removes the container's link and the endpoint with everything only it used; no-op if it does not exist. */
export async function removeEndpoint(
  deps: Omit<EndpointsDeps, 'writer'> & Pick<WorkloadDeps, 'writer'>,
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

/** Docker releases the addresses within some milliseconds; everything is one transaction then. */
const maxPatienceMs = 100;
const removalMs = 30_000;

/**
 * Like `removeEndpoint`, for an endpoint that Docker removes. If Docker releases the addresses to calico-ipam next,
 * the endpoint is deleted with them, and this returns before. An endpoint that remains because of that, or of a crash
 * in between, is unknown to Docker and is therefore reclaimed.
 */
export async function deleteEndpoint(
  deps: EndpointsDeps,
  request: EndpointRequest,
  signal: AbortSignal,
): Promise<void> {
  const { node, mirror, writer, log } = deps;
  const network = mirror.get('DockerNetwork', networkEntryId(node, request.NetworkID))?.value;
  if (network?.ipam !== 'calico') return removeEndpoint(deps, request, signal);
  const patient: Writer = {
    write: (plan, stop) => writer.writeWithNext(plan, stop, maxPatienceMs),
  };
  const stop = AbortSignal.timeout(removalMs);
  removeEndpoint({ ...deps, writer: patient }, request, stop).catch((error: unknown) =>
    log.warn('endpoint removal failed; will be reclaimed', {
      endpoint: request.EndpointID,
      why: describe(error),
    }),
  );
}

function removePlan(
  { node, addresses, local }: Pick<EndpointsDeps, 'node' | 'addresses' | 'local'>,
  draft: Draft,
  endpointId: string,
): WorkloadEndpoint | undefined {
  const found = endpointOf(draft, node, endpointId);
  if (found === undefined) return undefined;
  const { id, endpoint } = found;
  draft.remove('WorkloadEndpoint', id);
  const networkId = annotation(endpoint, 'network');
  const network = draft.get('DockerNetwork', networkEntryId(node, networkId ?? ''));
  const held = endpointAddresses(endpoint);
  if (network !== undefined) {
    addresses.releaseEndpoint(draft, { node, network, endpointId, addresses: held });
  }
  addresses.releasePrefixes(draft, endpointPrefixes(endpoint));
  addresses.releaseExtra(draft, { node, endpointId, addresses: extraAddresses(endpoint) });
  // Endpoints of calico-cnm always have their network as an annotation; those of libnetwork-plugin never do.
  if (networkId === undefined) addresses.releaseAdopted(draft, held);
  const sandbox = annotation(endpoint, 'sandbox');
  if (sandbox !== undefined) shareTags(draft, local.ofSandbox(sandbox));
  // A network removed before its last endpoint could not delete its Profiles.
  if (network === undefined) reclaimProfiles(draft, new Set(endpoint.spec.profiles));
  return endpoint;
}
