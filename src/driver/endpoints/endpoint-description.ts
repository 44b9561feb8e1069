import { isDeepStrictEqual } from 'node:util';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { parseJson } from '../../model/json.ts';
import {
  annotation,
  withAnnotation,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { ContainerLookup } from './container-lookup.ts';
import { endpointPolicy } from './endpoint-policy.ts';
import { withContainer, withPolicy } from './endpoint-record.ts';
import { nameNetwork, networkEntryId } from '../networks/networks.ts';
import type { Stamp } from '../../model/stamp.ts';
import { selectionFromOptions } from './selection.ts';
import { shareTags } from './shared-tags.ts';

export interface DescribeOptions {
  /** The id of the WorkloadEndpoint. */
  readonly id: string;
  readonly lookup: ContainerLookup;
  /** Docker's SandboxKey, where it is known; else it stays as it is. */
  readonly sandbox?: string;
  /** Ids of the endpoints of a sandbox. */
  readonly ofSandbox: (sandbox: string) => readonly string[];
  readonly stamp: Stamp;
}

/**
 * Writes what Docker says of an endpoint's container: name, Profiles, labels. As long as Docker does not say,
 * the endpoint has no Profiles, so all its traffic is dropped, and a note of why.
 *
 * Answers what is wrong with the container's labels. Throws `driver/unknown-endpoint` if the endpoint is
 * gone, `driver/unknown-network` if its network is.
 */
export function describeEndpoint(draft: Draft, options: DescribeOptions): readonly string[] {
  const { id, lookup } = options;
  const endpoint = draft.get('WorkloadEndpoint', id);
  if (endpoint === undefined) throw new CalicoError('driver/unknown-endpoint', { endpoint: id });
  const sandbox = options.sandbox ?? annotation(endpoint, 'sandbox');
  const placed = withAnnotation(endpoint, 'sandbox', sandbox);
  const { described, problems } =
    lookup.kind === 'found'
      ? fromDocker(draft, placed, { lookup, stamp: options.stamp })
      : { described: quarantined(placed, lookup.why), problems: [] };
  if (!isDeepStrictEqual(described, endpoint)) draft.put('WorkloadEndpoint', id, described);
  if (sandbox !== undefined) shareTags(draft, [...new Set([...options.ofSandbox(sandbox), id])]);
  return problems;
}

function fromDocker(
  draft: Draft,
  endpoint: WorkloadEndpoint,
  options: { readonly lookup: Extract<ContainerLookup, { kind: 'found' }>; readonly stamp: Stamp },
): { readonly described: WorkloadEndpoint; readonly problems: readonly string[] } {
  const { container, networkName } = options.lookup;
  const networkId = annotation(endpoint, 'network') ?? '';
  const network = nameNetwork(draft, {
    id: networkEntryId(endpoint.spec.node, networkId),
    name: networkName,
    stamp: options.stamp,
  });
  if (network === undefined)
    throw new CalicoError('driver/unknown-network', { network: networkId });
  const policy = endpointPolicy(network, connectionSelection(endpoint), container);
  const described = withAnnotation(
    withContainer(withPolicy(endpoint, policy), container),
    'quarantine',
    undefined,
  );
  return { described, problems: policy.problems };
}

/** No Profiles: nothing passes in either direction. Labels stay, for others' rules may count on them. */
function quarantined(endpoint: WorkloadEndpoint, why: string): WorkloadEndpoint {
  return withAnnotation(
    { ...endpoint, spec: { ...endpoint.spec, profiles: [] } },
    'quarantine',
    why,
  );
}

/** What the connection chose at CreateEndpoint. */
function connectionSelection(endpoint: WorkloadEndpoint) {
  const stored = parseJson(annotation(endpoint, 'options') ?? '{}');
  return selectionFromOptions(typeof stored === 'object' && stored !== null ? { ...stored } : {});
}
