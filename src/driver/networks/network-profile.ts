import { createHash } from 'node:crypto';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { formatJson } from '../../model/json.ts';
import { resourceNameFor, tagFor } from '../../model/names.ts';
import { namespaceNameLabel, namespaceProfileName } from '../../model/namespaces.ts';
import type { Profile } from '../../model/kinds/profile.ts';

/** Marks a resource as created by the driver; the value is the digest of the original spec. */
export const madeByDriver = 'docker.projectcalico.org/made-by-driver';

/** The original name of a resource whose name is mapped. */
export const dockerNameAnnotation = 'docker.projectcalico.org/name';

/** Returns the name of a network's Profile. */
export function networkProfile(dockerName: string): Profile {
  return driverMade(resourceNameFor(dockerName), dockerName, newProfileSpec(dockerName));
}

/**
 * Returns a new Profile: its own name as tag; inbound allowed from that tag; outbound allowed to everywhere. This has
 * been the default of libnetwork-plugin since 2015.
 */
export function newProfileSpec(dockerName: string): Profile['spec'] {
  const tag = tagFor(dockerName);
  return {
    labelsToApply: { [tag]: '' },
    ingress: [{ action: 'Allow', source: { selector: `has(${tag})` } }],
    egress: [{ action: 'Allow' }],
  };
}

/**
 * Returns the Profiles that a network gives its containers, by Docker's names: those of `-o profiles=`, or its own.
 */
export function networkProfiles({ name, options }: DockerNetwork): readonly string[] {
  return options.profiles ?? (name === undefined ? [] : [name]);
}

/** Returns the name of the Profile that isolates a network, if it is internal. */
export function networkIsolation({ name, internal }: DockerNetwork): readonly string[] {
  return internal && name !== undefined ? [isolationProfileName(name)] : [];
}

/** Returns the name of the Profile with the labels of the namespace of a network, if the network names one. */
export function profileOfNamespace({ options }: DockerNetwork): readonly string[] {
  return options.namespace === undefined ? [] : [namespaceProfileName(options.namespace)];
}

/**
 * Returns the Profile with the labels of a namespace. It has no rules: unlike on Kubernetes, where everything is
 * allowed until a policy denies it, the other Profiles of an endpoint say what it may do.
 */
export function namespaceProfile(namespace: string): Profile {
  const name = namespaceProfileName(namespace);
  return driverMade(name, name, { labelsToApply: { [namespaceNameLabel]: namespace } });
}

const isolationPrefix = 'xi--';

/** Returns the name of the Profile that isolates an internal network. */
export function isolationProfileName(dockerName: string): string {
  return `${isolationPrefix}${resourceNameFor(dockerName)}`;
}

/**
 * Reports whether a Profile of that name isolates an internal network; no other Docker name is mapped to such a name.
 */
export function isIsolationProfileName(name: string): boolean {
  return name.startsWith(isolationPrefix);
}

/**
 * The label that the isolation of an internal network gives its endpoints. It has a value, so it is not a tag, which
 * other endpoints of the container would share.
 */
const internalLabel = 'docker.projectcalico.org/internal';

/**
 * Returns the Profile that isolates an internal network (`--internal`), whatever Profiles its containers select: it
 * comes before them and denies traffic that is not from the network's own tag, and traffic neither to it nor to an
 * endpoint of another internal network. The isolation of that other network decides there, and admits a container of
 * both: its packets to either leave by one interface if both have addresses of one pool.
 */
export function isolationProfile(dockerName: string): Profile {
  const own = `has(${tagFor(dockerName)})`;
  return driverMade(isolationProfileName(dockerName), dockerName, {
    labelsToApply: { [internalLabel]: 'true' },
    ingress: [{ action: 'Deny', source: { notSelector: own } }],
    egress: [
      { action: 'Deny', destination: { notSelector: `${own} || ${internalLabel} == 'true'` } },
    ],
  });
}

/**
 * Reports whether the driver created the Profile and nobody has changed its spec since, nor added a label or
 * annotation.
 */
export function isUneditedDriverProfile({ metadata, spec }: Profile): boolean {
  const { annotations = {}, labels = {} } = metadata;
  const isOurs = (name: string) => name === madeByDriver || name === dockerNameAnnotation;
  return (
    annotations[madeByDriver] === digest(spec) &&
    Object.keys(annotations).every(isOurs) &&
    Object.keys(labels).length === 0
  );
}

function driverMade(name: string, dockerName: string, spec: Profile['spec']): Profile {
  return {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name,
      annotations: { [madeByDriver]: digest(spec), [dockerNameAnnotation]: dockerName },
    },
    spec,
  };
}

/** Returns the same text for equal content in any member order, whether or not empty members are written out. */
function digest(spec: Profile['spec']): string {
  return createHash('sha256')
    .update(formatJson(sorted(spec)))
    .digest('hex')
    .slice(0, 16);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, member]) => [key, sorted(member)] as const)
      .filter(([, member]) => !isEmpty(member))
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

function isEmpty(value: unknown): boolean {
  return (
    value === undefined ||
    (typeof value === 'object' && value !== null && Object.keys(value).length === 0)
  );
}
