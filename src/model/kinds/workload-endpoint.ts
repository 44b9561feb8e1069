import { z } from 'zod';
import type { IpAddress } from '../../ip/address.ts';
import { splitCidr, type Cidr } from '../../ip/cidr.ts';
import { net, resource, resourceName } from '../fields.ts';
import { dockerNameOf } from '../names.ts';
import { nameColumn, namespaceColumn, resourceType, type ResourceType } from '../resource-type.ts';

/** The orchestrator of Docker endpoints in Calico's data, as written by libnetwork-plugin. */
export const orchestrator = 'libnetwork';

const endpointPort = z.looseObject({
  name: z.string(),
  protocol: z.union([z.string(), z.int()]),
  port: z.int(),
  /** The published host port; absent or 0: not published. */
  hostPort: z.exactOptional(z.int()),
  hostIP: z.exactOptional(z.string()),
});

const workloadEndpoint = resource(
  'WorkloadEndpoint',
  z.looseObject({
    orchestrator: z.string(),
    workload: z.exactOptional(z.string()),
    node: resourceName,
    containerID: z.exactOptional(z.string()),
    endpoint: z.string(),
    ipNetworks: z.exactOptional(z.array(net)),
    profiles: z.exactOptional(z.array(z.string())),
    interfaceName: z.string().regex(/^[a-zA-Z0-9_.-]{1,15}$/, 'is not an interface name'),
    mac: z.exactOptional(z.string()),
    ports: z.exactOptional(z.array(endpointPort)),
    /** Prefixes behind the container: it may send from them, and its host routes them to it. */
    allowSpoofedSourcePrefixes: z.exactOptional(z.array(net)),
  }),
);

/** One interface of one container: its addresses, its Profiles, and the host's end of its veth. */
export type WorkloadEndpoint = z.infer<typeof workloadEndpoint>;

/** The groups of an endpoint are its addresses, and its name: its namespace may be unknown (see `endpointOf`). */
export const workloadEndpointType: ResourceType<WorkloadEndpoint> = resourceType({
  kind: 'WorkloadEndpoint',
  plural: 'workloadendpoints',
  aliases: ['wep'],
  meaning: 'endpoint of a container on a network, with addresses and Profiles',
  isNamespaced: true,
  schema: workloadEndpoint,
  groups: (id, value) => [...endpointAddresses(value), id.slice(id.indexOf('/') + 1)],
  columns: [
    { ...namespaceColumn, isWide: true },
    { ...nameColumn, isWide: true },
    { header: 'container', cell: endpointTitle },
    { header: 'node', cell: ({ spec }) => spec.node },
    { header: 'addresses', cell: ({ spec }) => (spec.ipNetworks ?? []).join(',') },
    { header: 'interface', cell: ({ spec }) => spec.interfaceName },
    {
      header: 'profiles',
      cell: ({ spec }) => (spec.profiles ?? []).map(dockerNameOf).join(','),
    },
  ],
});

/**
 * Returns the name of a Docker endpoint's WorkloadEndpoint: node, orchestrator, workload and endpoint joined by `-`,
 * each `-` inside a part doubled. For orchestrator `libnetwork` the third part is that same constant.
 */
export function endpointName(node: string, endpointId: string): string {
  return [node, orchestrator, orchestrator, endpointId]
    .map((part) => part.replaceAll('-', '--'))
    .join('-');
}

/** Returns the ID of the WorkloadEndpoint of a Docker endpoint in a namespace. */
export function endpointEntryId(node: string, endpointId: string, namespace: string): string {
  return `${namespace}/${endpointName(node, endpointId)}`;
}

/** Returns the prefix of the IDs of all Docker endpoints of a host in a namespace. */
export function endpointIdsOf(node: string, namespace: string): string {
  return endpointEntryId(node, '', namespace);
}

/** Returns the addresses of an endpoint; none if it is `undefined`. */
export function endpointAddresses(endpoint: WorkloadEndpoint | undefined): readonly IpAddress[] {
  return (endpoint?.spec.ipNetworks ?? []).map((network) => splitCidr(network).address);
}

/** Returns the addresses of an endpoint in addition to Docker's; see `driver/endpoints/extra-addresses.ts`. */
export function extraAddresses(endpoint: WorkloadEndpoint | undefined): readonly IpAddress[] {
  const listed = endpoint && annotation(endpoint, 'extraAddresses');
  const extra = new Set<string>(listed?.split(','));
  return endpointAddresses(endpoint).filter((address) => extra.has(address));
}

/**
 * Returns the prefixes behind an endpoint: the container forwards packets from and to them. Empty for endpoints of
 * other orchestrators: there the field only permits source addresses, and any container may set it.
 */
export function endpointPrefixes(endpoint: WorkloadEndpoint | undefined): readonly Cidr[] {
  if (endpoint?.spec.orchestrator !== orchestrator) return [];
  return endpoint.spec.allowSpoofedSourcePrefixes ?? [];
}

/** Returns the addresses of an endpoint that Docker requested. */
export function dockerAddresses(endpoint: WorkloadEndpoint | undefined): readonly IpAddress[] {
  const extra = new Set(extraAddresses(endpoint));
  return endpointAddresses(endpoint).filter((address) => !extra.has(address));
}

/**
 * Returns Docker's name of the container; `undefined` until Docker has provided it. libnetwork-plugin never requested
 * it. It is stored as a name that Calico's tools accept, because they reject the whole endpoint for `My_App`.
 */
export function containerName({ spec }: WorkloadEndpoint): string | undefined {
  return (spec.containerID ?? '') === '' ? undefined : dockerNameOf(spec.workload ?? '');
}

/**
 * Returns the names that a container has on its network in addition to its own: aliases of `docker run` and Compose,
 * which include Compose's service name. They resolve on all hosts.
 */
export function endpointAliases(endpoint: WorkloadEndpoint): readonly string[] {
  return annotation(endpoint, 'aliases')?.split(',') ?? [];
}

/** Returns the name of an endpoint for users: its container, or the beginning of its own ID. */
export function endpointTitle(endpoint: WorkloadEndpoint): string {
  return containerName(endpoint) ?? `endpoint ${endpoint.spec.endpoint.slice(0, 12)}`;
}

/**
 * Reports whether a name denotes an endpoint: its container's name or ID (at least 12 digits), as tables show it under
 * CONTAINER, or the name of the WorkloadEndpoint.
 */
export function isEndpointNamed(endpoint: WorkloadEndpoint, name: string): boolean {
  const { metadata, spec } = endpoint;
  return (
    [endpointTitle(endpoint), spec.workload, metadata.name].includes(name) ||
    `${metadata.namespace ?? ''}/${metadata.name}` === name ||
    (name.length >= 12 && spec.containerID?.startsWith(name) === true)
  );
}

/** The annotations for Docker's data of an endpoint for which Calico has no field. */
export const endpointAnnotations = {
  /** Docker's network ID. */
  network: 'docker.projectcalico.org/network',
  /** Docker's SandboxKey: the path of the network namespace, the same for all endpoints of one container. */
  sandbox: 'docker.projectcalico.org/sandbox',
  /** Why the endpoint is in quarantine; absent when it is not. */
  quarantine: 'docker.projectcalico.org/quarantine',
  /** Endpoint options of `docker run --network name=…,driver-opt=…`, as JSON. */
  options: 'docker.projectcalico.org/options',
  /** Comma-separated Profiles that a user set for the running container, instead of those from Docker. */
  chosenProfiles: 'docker.projectcalico.org/chosen-profiles',
  /** Comma-separated keys of the labels that the driver wrote for the container and its network. */
  labels: 'docker.projectcalico.org/labels',
  /** Comma-separated names of the ports in `spec.ports` that the driver wrote from labels of the container. */
  namedPorts: 'docker.projectcalico.org/named-ports',
  /** Which labels of the container were ignored, and why, as sentences for status. */
  ignoredLabels: 'docker.projectcalico.org/ignored-labels',
  /** Comma-separated tags that the endpoint has from the other networks of its container. */
  sharedTags: 'docker.projectcalico.org/shared-tags',
  /** Comma-separated addresses of `spec.ipNetworks` that the container requested in addition to Docker's. */
  extraAddresses: 'docker.projectcalico.org/extra-addresses',
  /** Comma-separated names of the container on its network in addition to its own; see `endpointAliases`. */
  aliases: 'docker.projectcalico.org/aliases',
  /** `true` or `false` if the network overrides the pool's outgoing NAT. */
  natOutgoing: 'docker.projectcalico.org/nat-outgoing',
  /** `policy` if the network leaves published ports to the rules alone. */
  published: 'docker.projectcalico.org/published',
  /** Long runs of published ports, which would be too large one by one: see `published-port.ts`. */
  publishedRanges: 'docker.projectcalico.org/published-ranges',
} as const;

/** Sets or removes one of these annotations. */
export function withAnnotation(
  endpoint: WorkloadEndpoint,
  key: keyof typeof endpointAnnotations,
  value: string | undefined,
): WorkloadEndpoint {
  if (annotation(endpoint, key) === value) return endpoint;
  const { [endpointAnnotations[key]]: _, ...others } = endpoint.metadata.annotations ?? {};
  const annotations =
    value === undefined ? others : { ...others, [endpointAnnotations[key]]: value };
  return { ...endpoint, metadata: { ...endpoint.metadata, annotations } };
}

/** Returns one of these annotations. */
export function annotation(
  endpoint: WorkloadEndpoint,
  key: keyof typeof endpointAnnotations,
): string | undefined {
  return endpoint.metadata.annotations?.[endpointAnnotations[key]];
}

/**
 * Reports whether Docker has not described the container yet: its labels are unknown, and no policy may allow its traffic
 * by them.
 */
export function hasUnknownLabels(endpoint: WorkloadEndpoint): boolean {
  const { profiles = [] } = endpoint.spec;
  return profiles.length === 0 && annotation(endpoint, 'quarantine') !== undefined;
}
