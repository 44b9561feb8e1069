import { isDeepStrictEqual } from 'node:util';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { parseJson } from '../../model/json.ts';
import {
  annotation,
  endpointPrefixes,
  extraAddresses,
  withAnnotation,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { LabelFilter } from './container-labels.ts';
import type { ContainerLookup } from './container-lookup.ts';
import { endpointPolicy, type Container } from './endpoint-policy.ts';
import { withContainer, withPolicy } from './endpoint-record.ts';
import { extrasFromLabels, withExtras, type Extras } from './extra-addresses.ts';
import type { AddressPlans } from '../networks/address-plans.ts';
import { nameNetwork, networkEntryId } from '../networks/networks.ts';
import type { Stamp } from '../../model/stamp.ts';
import { selectionFromOptions } from './selection.ts';
import { shareTags } from './shared-tags.ts';

export interface DescribeOptions {
  /** ID of the WorkloadEndpoint. */
  readonly id: string;
  readonly lookup: ContainerLookup;
  /** Docker's SandboxKey if known; otherwise it stays unchanged. */
  readonly sandbox?: string;
  /** IDs of the endpoints of a sandbox. */
  readonly ofSandbox: (sandbox: string) => readonly string[];
  readonly stamp: Stamp;
  /** The labels of the container that its endpoint gets. */
  readonly isTaken: LabelFilter;
  /**
   * Claims the addresses that the container's labels request. Omitted if an error could not be shown to anybody: the
   * endpoint keeps its present addresses.
   */
  readonly addresses?: Pick<AddressPlans, 'claimExtra' | 'claimPrefixes'>;
}

/**
 * Writes Docker's description of an endpoint's container: name, Profiles, labels. Until Docker describes it, the
 * endpoint has no Profiles, so all its traffic is dropped, and an annotation gives the reason.
 *
 * Returns the problems of the container's labels. Throws `driver/unknown-endpoint` if the endpoint does not exist any
 * more, `driver/unknown-network` if its network does not.
 */
export function describeEndpoint(draft: Draft, options: DescribeOptions): readonly string[] {
  const { id, lookup } = options;
  const endpoint = draft.get('WorkloadEndpoint', id);
  if (endpoint === undefined) throw new CalicoError('driver/unknown-endpoint', { endpoint: id });
  const sandbox = options.sandbox ?? annotation(endpoint, 'sandbox');
  const placed = withAnnotation(endpoint, 'sandbox', sandbox);
  const { described, problems } =
    lookup.kind === 'found'
      ? fromDocker(draft, placed, { ...options, lookup })
      : { described: quarantined(placed, lookup.why), problems: [] };
  if (!isDeepStrictEqual(described, endpoint)) draft.put('WorkloadEndpoint', id, described);
  if (sandbox !== undefined) shareTags(draft, [...new Set([...options.ofSandbox(sandbox), id])]);
  return problems;
}

function fromDocker(
  draft: Draft,
  endpoint: WorkloadEndpoint,
  options: DescribeOptions & { readonly lookup: Extract<ContainerLookup, { kind: 'found' }> },
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
  const addressed =
    options.addresses === undefined
      ? endpoint
      : withExtras(draft, endpoint, {
          network,
          extras: extrasOfLabels(draft, endpoint, {
            container,
            ofSandbox: options.ofSandbox,
          }),
          plans: options.addresses,
        });
  const policy = endpointPolicy(network, connectionSelection(endpoint), {
    container,
    isTaken: options.isTaken,
  });
  const { problems } = policy;
  const released = withAnnotation(
    withContainer(withPolicy(addressed, policy), container),
    'quarantine',
    undefined,
  );
  const ignored = problems.length === 0 ? undefined : problems.join('; ');
  return { described: withAnnotation(released, 'ignoredLabels', ignored), problems };
}

/**
 * Returns the addresses and prefixes requested by the container's labels, without those of its other endpoints: labels
 * name no network, so the first network that the container joins gets them.
 */
function extrasOfLabels(
  draft: Draft,
  endpoint: WorkloadEndpoint,
  asked: { readonly container: Container } & Pick<DescribeOptions, 'ofSandbox'>,
): Extras {
  const { addresses, prefixes } = extrasFromLabels(asked.container.labels);
  if (addresses.length + prefixes.length === 0) return { addresses, prefixes };
  const sandbox = annotation(endpoint, 'sandbox');
  const siblings = (sandbox === undefined ? [] : asked.ofSandbox(sandbox)).flatMap((id) => {
    const sibling = draft.get('WorkloadEndpoint', id);
    return sibling === undefined || sibling.spec.endpoint === endpoint.spec.endpoint
      ? []
      : [sibling];
  });
  const taken = new Set<string>([
    ...siblings.flatMap(extraAddresses),
    ...siblings.flatMap(endpointPrefixes),
  ]);
  return {
    addresses: addresses.filter((address) => !taken.has(address)),
    prefixes: prefixes.filter((prefix) => !taken.has(prefix)),
  };
}

/** Without Profiles no traffic passes in either direction. Labels stay, because rules of others may match them. */
function quarantined(endpoint: WorkloadEndpoint, why: string): WorkloadEndpoint {
  return withAnnotation(
    { ...endpoint, spec: { ...endpoint.spec, profiles: [] } },
    'quarantine',
    why,
  );
}

/** Returns the selection of the connection at CreateEndpoint. */
function connectionSelection(endpoint: WorkloadEndpoint) {
  const stored = parseJson(annotation(endpoint, 'options') ?? '{}');
  return selectionFromOptions(typeof stored === 'object' && stored !== null ? { ...stored } : {});
}
