import type { z } from 'zod';
import { clusterInformation } from './cluster-information.ts';
import { dockerNetwork } from './docker-network.ts';
import { dockerPool } from './docker-pool.ts';
import { entryType, type EntryType } from '../entry.ts';
import { affinity } from './affinity.ts';
import { block, blockHost, hasFree, type Block } from './block.ts';
import { handle } from './handle.ts';
import { ipamConfig } from './ipam-config.ts';
import { ipPool } from './ip-pool.ts';
import { ipReservation } from './ip-reservation.ts';
import { globalNetworkSet, networkSet } from './network-set.ts';
import { node } from './node.ts';
import { otherResource } from './other-resource.ts';
import { profile } from './profile.ts';
import { tier } from './tier.ts';
import { endpointAddresses, workloadEndpoint } from './workload-endpoint.ts';

/** Everything that Calico or we store lies below this. */
export const rootPrefix = '/calico/';

const v3 = '/calico/resources/v3/projectcalico.org';
const ipam = '/calico/ipam/v2';
const docker = '/calico/docker/v1/host';

/** Ids of two parts, `<first>/<second>`, written with a fixed text between them. */
function hostScoped(between: string) {
  return {
    write: (id: string) => id.replace('/', between),
    read: (text: string) => {
      const at = text.indexOf(between);
      const [first, second] = [text.slice(0, at), text.slice(at + between.length)];
      return at <= 0 || second === '' || second.includes('/') ? undefined : `${first}/${second}`;
    },
  };
}

/** A CIDR as a key segment: Calico writes its slash as a dash. */
const cidrSegment = {
  write: (id: string) => id.replace('/', '-'),
  read: (text: string) => {
    const dash = text.lastIndexOf('-');
    return dash <= 0 || text.includes('/')
      ? undefined
      : `${text.slice(0, dash)}/${text.slice(dash + 1)}`;
  },
};

const namespaced = {
  write: (id: string) => id,
  read: (text: string) => (/^[^/]+\/[^/]+$/.test(text) ? text : undefined),
};

/** A key below the root of resources, but of none of the kinds that have one of their own. */
function otherId(text: string): string | undefined {
  if (!/^[^/]+(\/[^/]+){1,2}$/.test(text)) return undefined;
  const isKnown = entryKinds.some(
    (kind) => kind !== 'OtherResource' && `${v3}/${text}`.startsWith(entryTypes[kind].prefix),
  );
  return isKnown ? undefined : text;
}

function affinitySegment(family: 'ipv4' | 'ipv6') {
  const { write, read } = hostScoped(`/${family}/block/`);
  return {
    write: (id: string) => {
      const slash = id.indexOf('/');
      return write(`${id.slice(0, slash)}/${cidrSegment.write(id.slice(slash + 1))}`);
    },
    read: (text: string) => {
      const id = read(text);
      const slash = id?.indexOf('/') ?? -1;
      const blockCidr = cidrSegment.read(id?.slice(slash + 1) ?? '');
      return id === undefined || blockCidr === undefined
        ? undefined
        : `${id.slice(0, slash)}/${blockCidr}`;
    },
  };
}

/** The first part of an id of two. */
function firstPart(id: string): readonly string[] {
  return [id.slice(0, id.indexOf('/'))];
}

/** The host that can allocate from a block. */
function groupOfBlock(_: string, value: Block): readonly string[] {
  const host = hasFree(value) ? blockHost(value) : undefined;
  return host === undefined ? [] : [host];
}

/**
 * Every kind of value in the datastore. Keys: datastore layout of Calico v3 for etcd
 * (libcalico-go/lib/backend/model); the two Docker kinds are ours.
 *
 * Ids: the name; `<namespace>/<name>` for WorkloadEndpoint and NetworkSet; the key below the root of resources for
 * those of other kinds; the CIDR for blocks; `<host>/<cidr>` for
 * affinities; `<node>/<id>` for the Docker kinds; `config` for the IPAM configuration.
 *
 * Groups: the host of affinities and Docker kinds; of blocks the host that can allocate from it, so a full
 * block has none; of endpoints their addresses.
 *
 * Observed: pools, reservations and the Docker kinds. A plan that looks through them to find that there is no other
 * (an overlapping pool, a next hop in use, a network that still uses a pool) is run again if one came meanwhile.
 */
export const entryTypes = {
  IPPool: entryType({
    label: 'IPPool',
    prefix: `${v3}/ippools/`,
    schema: ipPool,
    isObserved: true,
  }),
  IPReservation: entryType({
    label: 'IPReservation',
    prefix: `${v3}/ipreservations/`,
    schema: ipReservation,
    isObserved: true,
  }),
  Profile: entryType({ label: 'Profile', prefix: `${v3}/profiles/`, schema: profile }),
  WorkloadEndpoint: entryType({
    label: 'WorkloadEndpoint',
    prefix: `${v3}/workloadendpoints/`,
    schema: workloadEndpoint,
    segment: namespaced,
    groups: (_, value) => endpointAddresses(value),
  }),
  NetworkSet: entryType({
    label: 'NetworkSet',
    prefix: `${v3}/networksets/`,
    schema: networkSet,
    segment: namespaced,
  }),
  GlobalNetworkSet: entryType({
    label: 'GlobalNetworkSet',
    prefix: `${v3}/globalnetworksets/`,
    schema: globalNetworkSet,
  }),
  Node: entryType({ label: 'Node', prefix: `${v3}/nodes/`, schema: node }),
  ClusterInformation: entryType({
    label: 'ClusterInformation',
    prefix: `${v3}/clusterinformations/`,
    schema: clusterInformation,
  }),
  Tier: entryType({ label: 'Tier', prefix: `${v3}/tiers/`, schema: tier }),
  OtherResource: entryType({
    label: 'resource',
    prefix: `${v3}/`,
    schema: otherResource,
    segment: { write: (id) => id, read: otherId },
  }),
  Block4: entryType({
    label: 'IPAM block',
    prefix: `${ipam}/assignment/ipv4/block/`,
    schema: block,
    segment: cidrSegment,
    groups: groupOfBlock,
  }),
  Block6: entryType({
    label: 'IPAM block',
    prefix: `${ipam}/assignment/ipv6/block/`,
    schema: block,
    segment: cidrSegment,
    groups: groupOfBlock,
  }),
  Affinity4: entryType({
    label: 'block affinity',
    prefix: `${ipam}/host/`,
    schema: affinity,
    segment: affinitySegment('ipv4'),
    groups: firstPart,
  }),
  Affinity6: entryType({
    label: 'block affinity',
    prefix: `${ipam}/host/`,
    schema: affinity,
    segment: affinitySegment('ipv6'),
    groups: firstPart,
  }),
  Handle: entryType({ label: 'IPAM handle', prefix: `${ipam}/handle/`, schema: handle }),
  IpamConfig: entryType({
    label: 'IPAM configuration',
    prefix: `${ipam}/`,
    schema: ipamConfig,
    segment: { write: (id) => id, read: (text) => (text === 'config' ? text : undefined) },
  }),
  DockerNetwork: entryType({
    label: 'Docker network',
    prefix: `${docker}/`,
    schema: dockerNetwork,
    segment: hostScoped('/network/'),
    groups: firstPart,
    isObserved: true,
  }),
  DockerPool: entryType({
    label: 'Docker pool',
    prefix: `${docker}/`,
    schema: dockerPool,
    segment: hostScoped('/pool/'),
    groups: firstPart,
    isObserved: true,
  }),
} as const;

export type EntryKind = keyof typeof entryTypes;

/** The typed value of each kind. */
export type EntryValues = { readonly [K in EntryKind]: z.infer<(typeof entryTypes)[K]['schema']> };
export type EntryValue<K extends EntryKind> = EntryValues[K];

/** The entry types with kind and value type tied together, for code that is generic in the kind. */
export const entryTypeOf: { readonly [K in EntryKind]: EntryType<EntryValues[K]> } = entryTypes;

/** All kinds. */
export const entryKinds: readonly EntryKind[] = Object.keys(entryTypes).filter(isEntryKind);

/** What a key means: its kind and id; `undefined` for keys that are not ours to read. */
export function parseKey(
  key: string,
): { readonly kind: EntryKind; readonly id: string } | undefined {
  for (const kind of entryKinds) {
    const id = entryTypes[kind].idOf(key);
    if (id !== undefined) return { kind, id };
  }
  return undefined;
}

function isEntryKind(text: string): text is EntryKind {
  return text in entryTypes;
}
