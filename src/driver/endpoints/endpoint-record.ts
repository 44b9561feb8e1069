import type { IpAddress } from '../../ip/address.ts';
import { hostCidr } from '../../ip/cidr.ts';
import { namespaceOfNetwork, type DockerNetwork } from '../../model/kinds/docker-network.ts';
import { namespaceLabel } from '../../model/kinds/network-set.ts';
import {
  annotation,
  endpointAnnotations,
  endpointName,
  orchestrator,
  withAnnotation,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { resourceNameFor } from '../../model/names.ts';
import { defaultNamespace, namespaceOfProfile } from '../../model/namespaces.ts';
import { hostInterfaceName } from '../../workload/interfaces.ts';
import type { Container, EndpointPolicy } from './endpoint-policy.ts';
import type { ContainerPort } from './container-labels.ts';
import { isIsolationProfileName } from '../networks/network-profile.ts';

/**
 * The WorkloadEndpoint of a Docker endpoint: its content at CreateEndpoint, and its changes at Join or on Docker's
 * description. All functions are pure; those on a draft change only the draft.
 */

/** Returns the labels that Calico's client forces on every WorkloadEndpoint; namespaced policy matches on the first. */
function forcedLabels({ metadata }: WorkloadEndpoint) {
  return {
    [namespaceLabel]: metadata.namespace ?? defaultNamespace,
    'projectcalico.org/orchestrator': orchestrator,
  };
}

/** The properties of an endpoint that are known when Docker creates it. */
export interface EndpointFacts {
  readonly node: string;
  readonly network: DockerNetwork;
  readonly endpointId: string;
  readonly addresses: readonly IpAddress[];
  readonly mac: string;
  /** The endpoint's own driver options, as Docker sent them; read again at Join. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** Returns a new WorkloadEndpoint, without uid and creation time. */
export function newEndpoint(facts: EndpointFacts, policy: EndpointPolicy): WorkloadEndpoint {
  const { node, network, endpointId, options } = facts;
  const natOutgoing = network.options.natOutgoing;
  return withPolicy(
    {
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: {
        name: endpointName(node, endpointId),
        namespace: namespaceOfNetwork(network),
        annotations: {
          [endpointAnnotations.network]: network.id,
          ...(Object.keys(options).length === 0
            ? {}
            : { [endpointAnnotations.options]: JSON.stringify(options) }),
          ...(natOutgoing === undefined
            ? {}
            : { [endpointAnnotations.natOutgoing]: String(natOutgoing) }),
        },
      },
      spec: {
        orchestrator,
        workload: orchestrator,
        node,
        endpoint: endpointId,
        ipNetworks: facts.addresses.map(hostCidr),
        profiles: [],
        interfaceName: hostInterfaceName(endpointId),
        mac: facts.mac,
      },
    },
    policy,
  );
}

/**
 * Returns the endpoint with the given Profiles and labels. Profiles selected by a user (`withChosenProfiles`) and
 * labels set by others stay; labels and named ports that the driver wrote before and does not write now are removed.
 */
export function withPolicy(endpoint: WorkloadEndpoint, policy: EndpointPolicy): WorkloadEndpoint {
  const labels = {
    ...withoutKeys(endpoint.metadata.labels ?? {}, listed(endpoint, 'labels')),
    ...policy.labels,
    ...forcedLabels(endpoint),
  };
  const changed = {
    ...endpoint,
    metadata: { ...endpoint.metadata, labels },
    spec: { ...endpoint.spec, profiles: [...profilesFor(endpoint, policy)] },
  };
  const labelled = withAnnotation(changed, 'labels', list(Object.keys(policy.labels)));
  return withNamedPorts(labelled, policy.ports);
}

/** Returns the endpoint with the named ports of its container; those of others stay. */
function withNamedPorts(
  endpoint: WorkloadEndpoint,
  named: readonly ContainerPort[],
): WorkloadEndpoint {
  const written = listed(endpoint, 'namedPorts');
  const { ports: before = [], ...spec } = endpoint.spec;
  const isWritten = ({ name, hostPort = 0 }: (typeof before)[number]) =>
    hostPort === 0 && written.includes(name);
  const ports = [
    ...before.filter((one) => !isWritten(one)),
    ...named.map((one) => ({ ...one, hostPort: 0, hostIP: '' })),
  ];
  const changed = { ...endpoint, spec: ports.length === 0 ? spec : { ...spec, ports } };
  return withAnnotation(changed, 'namedPorts', list(named.map(({ name }) => name)));
}

function profilesFor(endpoint: WorkloadEndpoint, policy: EndpointPolicy): readonly string[] {
  const chosen = annotation(endpoint, 'chosenProfiles');
  if (chosen === undefined) return policy.profiles;
  return withImposed(
    policy.profiles,
    chosen.split(',').filter((name) => name !== ''),
  );
}

/**
 * Returns chosen Profiles with those that a network imposes: its isolation before them, because the first rule that
 * matches decides, and the labels of its namespace after them.
 */
function withImposed(present: readonly string[], chosen: readonly string[]): readonly string[] {
  return [
    ...present.filter(isIsolationProfileName),
    ...chosen,
    ...present.filter((name) => namespaceOfProfile(name) !== undefined),
  ];
}

/**
 * Returns the endpoint with Profiles selected by a user. They last as long as the endpoint, which is until its
 * container stops or leaves the network; what the network imposes stays.
 */
export function withChosenProfiles(
  endpoint: WorkloadEndpoint,
  chosen: readonly string[],
): WorkloadEndpoint {
  const present = endpoint.spec.profiles ?? [];
  const imposed = withImposed(present, []);
  const free = [...new Set(chosen)].filter((name) => !imposed.includes(name));
  return withAnnotation(
    { ...endpoint, spec: { ...endpoint.spec, profiles: [...withImposed(present, free)] } },
    'chosenProfiles',
    free.join(','),
  );
}

/**
 * Returns the endpoint with the tags of its container's other networks, because a container is one identity: its
 * packets to one network may carry its address on another. A label of its own overrides a tag.
 */
export function withSharedTags(
  endpoint: WorkloadEndpoint,
  tags: readonly string[],
): WorkloadEndpoint {
  const own = withoutKeys(endpoint.metadata.labels ?? {}, listed(endpoint, 'sharedTags'));
  const shared = tags.filter((tag) => !(tag in own));
  const labels = { ...Object.fromEntries(shared.map((tag) => [tag, ''])), ...own };
  const changed = { ...endpoint, metadata: { ...endpoint.metadata, labels } };
  return withAnnotation(changed, 'sharedTags', list(shared));
}

/** Returns the endpoint with its container: the name that `get` shows, and Docker's ID. */
export function withContainer(endpoint: WorkloadEndpoint, container: Container): WorkloadEndpoint {
  return {
    ...endpoint,
    spec: {
      ...endpoint.spec,
      workload: resourceNameFor(container.name),
      containerID: container.id,
    },
  };
}

function listed(
  endpoint: WorkloadEndpoint,
  key: keyof typeof endpointAnnotations,
): readonly string[] {
  return annotation(endpoint, key)?.split(',') ?? [];
}

function list(keys: readonly string[]): string | undefined {
  return keys.length === 0 ? undefined : keys.toSorted().join(',');
}

function withoutKeys(
  labels: Readonly<Record<string, string>>,
  keys: readonly string[],
): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(labels).filter(([key]) => !keys.includes(key)));
}
