import { createHash } from 'node:crypto';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { formatJson } from '../../model/json.ts';
import { resourceNameFor, tagFor } from '../../model/names.ts';
import type { Profile } from '../../model/kinds/profile.ts';

/** Says that the driver made a resource, and with what content: the digest of the spec as it was made. */
export const madeByDriver = 'docker.projectcalico.org/made-by-driver';

/** The name that people gave to what a mapped name stands for. */
export const dockerNameAnnotation = 'docker.projectcalico.org/name';

/** The Profile that a network's name stands for. */
export function networkProfile(dockerName: string): Profile {
  return driverMade(resourceNameFor(dockerName), dockerName, newProfileSpec(dockerName));
}

/**
 * What a new Profile says: its own name as tag; in from that tag; out to everywhere. It is the default of
 * Calico's Docker plugin since 2015.
 */
export function newProfileSpec(dockerName: string): Profile['spec'] {
  const tag = tagFor(dockerName);
  return {
    labelsToApply: { [tag]: '' },
    ingress: [{ action: 'Allow', source: { selector: `has(${tag})` } }],
    egress: [{ action: 'Allow' }],
  };
}

/** The Profiles that a network gives its containers, by Docker's names: those of `-o profiles=`, or its own. */
export function networkProfiles({ name, options }: DockerNetwork): readonly string[] {
  return options.profiles ?? (name === undefined ? [] : [name]);
}

/** The name of the Profile that isolates a network, if it is internal. */
export function networkIsolation({ name, internal }: DockerNetwork): readonly string[] {
  return internal && name !== undefined ? [isolationProfileName(name)] : [];
}

const isolationPrefix = 'xi--';

/** The name of the Profile that isolates an internal network. */
export function isolationProfileName(dockerName: string): string {
  return `${isolationPrefix}${resourceNameFor(dockerName)}`;
}

/** Whether a Profile of that name isolates an internal network; no other Docker name is mapped to such a one. */
export function isIsolationProfileName(name: string): boolean {
  return name.startsWith(isolationPrefix);
}

/** The label that the isolation of an internal network gives its endpoints. Having a value, it is no tag, which others of the container would share. */
const internalLabel = 'docker.projectcalico.org/internal';

/**
 * What keeps an internal network (`--internal`) to itself, whatever Profiles its containers choose: it stands before
 * them and denies what does not come from the network's own tag, and what goes neither to it nor to an endpoint of
 * another internal network. There that network's isolation decides, which admits a container of both: its packets to
 * either leave by one interface where both have addresses of one pool.
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

/** Whether the driver made the Profile and nobody has changed since what it says, nor put a label or annotation there. */
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

/** The same for equal content in any member order, whether or not empty members are written out. */
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
