import type { z } from 'zod';
import type { EntryType } from '../entry-type.ts';
import { resourceRoot, type ResourceType } from '../resource-type.ts';
import { affinity4Type, affinity6Type } from './affinity.ts';
import { bgpConfigurationType } from './bgp-configuration.ts';
import { bgpFilterType } from './bgp-filter.ts';
import { bgpPeerType } from './bgp-peer.ts';
import { block4Type, block6Type } from './block.ts';
import { calicoNodeStatusType } from './calico-node-status.ts';
import { clusterInformationType } from './cluster-information.ts';
import { dockerNetworkType } from './docker-network.ts';
import { dockerPoolType } from './docker-pool.ts';
import { handleType } from './handle.ts';
import { hostEndpointType } from './host-endpoint.ts';
import { ipPoolType } from './ip-pool.ts';
import { ipReservationType } from './ip-reservation.ts';
import { ipamConfigType } from './ipam-config.ts';
import { felixConfigurationType } from './felix-configuration.ts';
import { globalNetworkPolicyType } from './global-network-policy.ts';
import { networkDefinitionType } from './network-definition.ts';
import { networkPolicyType } from './network-policy.ts';
import { networkReportType } from './network-report.ts';
import { globalNetworkSetType, networkSetType } from './network-set.ts';
import { nodeReportType } from './node-report.ts';
import { nodeType } from './node.ts';
import { otherResourceType } from './other-resource.ts';
import { profileType } from './profile.ts';
import { stagedGlobalNetworkPolicyType } from './staged-global-network-policy.ts';
import { stagedNetworkPolicyType } from './staged-network-policy.ts';
import { tierType } from './tier.ts';
import { workloadEndpointType } from './workload-endpoint.ts';

/** Prefix of all data of Calico and of calico-cnm. */
export const rootPrefix = '/calico/';

/**
 * Every kind of value in the datastore, in display order. A new kind is a file in this directory and a line here;
 * everything else is generic over this list.
 */
export const entryTypes = {
  IPPool: ipPoolType,
  IPReservation: ipReservationType,
  Profile: profileType,
  NetworkSet: networkSetType,
  GlobalNetworkSet: globalNetworkSetType,
  WorkloadEndpoint: workloadEndpointType,
  Node: nodeType,
  Tier: tierType,
  NetworkPolicy: networkPolicyType,
  GlobalNetworkPolicy: globalNetworkPolicyType,
  StagedNetworkPolicy: stagedNetworkPolicyType,
  StagedGlobalNetworkPolicy: stagedGlobalNetworkPolicyType,
  HostEndpoint: hostEndpointType,
  BGPConfiguration: bgpConfigurationType,
  BGPPeer: bgpPeerType,
  BGPFilter: bgpFilterType,
  CalicoNodeStatus: calicoNodeStatusType,
  FelixConfiguration: felixConfigurationType,
  ClusterInformation: clusterInformationType,
  OtherResource: otherResourceType(isPlural),
  Block4: block4Type,
  Block6: block6Type,
  Affinity4: affinity4Type,
  Affinity6: affinity6Type,
  Handle: handleType,
  IpamConfig: ipamConfigType,
  DockerNetwork: dockerNetworkType,
  DockerPool: dockerPoolType,
  NodeReport: nodeReportType,
  NetworkDefinition: networkDefinitionType,
  NetworkReport: networkReportType,
} as const;

type EntryTypes = typeof entryTypes;
export type EntryKind = keyof EntryTypes;

/** The typed value of each kind. */
export type EntryValues = { readonly [K in EntryKind]: z.infer<EntryTypes[K]['schema']> };
export type EntryValue<K extends EntryKind> = EntryValues[K];

/** The entry types with kind and value type combined, for code that is generic in the kind. */
export const entryTypeOf: { readonly [K in EntryKind]: EntryType<EntryValues[K]> } = entryTypes;

/** All kinds. */
export const entryKinds: readonly EntryKind[] = Object.keys(entryTypes).filter(isEntryKind);

/** The kinds that users read and write. */
export type ResourceKind = {
  [K in EntryKind]: EntryTypes[K] extends { readonly isUserFacing: true } ? K : never;
}[EntryKind];

/** A resource of any kind; its `kind` names it. */
export type Resource = EntryValue<ResourceKind>;

/** Like `entryTypeOf`, for the kinds that users read and write. */
export const resourceTypeOf: { readonly [K in ResourceKind]: ResourceType<EntryValues[K]> } =
  entryTypes;

/** Returns all kinds that users read and write. */
export const resourceKinds: readonly ResourceKind[] = entryKinds.filter(isResourceKind);

const kindOfPlural: ReadonlyMap<string, ResourceKind> = new Map(
  resourceKinds.map((kind) => [resourceTypeOf[kind].plural, kind]),
);
const recordKinds = entryKinds.filter((kind) => !isResourceKind(kind));

/** Returns the kind and ID of a key; `undefined` for keys that calico-cnm does not read. */
export function parseKey(
  key: string,
): { readonly kind: EntryKind; readonly id: string } | undefined {
  const plural = key.startsWith(resourceRoot)
    ? key.slice(resourceRoot.length, key.indexOf('/', resourceRoot.length))
    : '';
  const kind = kindOfPlural.get(plural);
  for (const candidate of kind === undefined ? recordKinds : [kind]) {
    const id = entryTypes[candidate].idOf(key);
    if (id !== undefined) return { kind: candidate, id };
  }
  return undefined;
}

function isEntryKind(text: string): text is EntryKind {
  return text in entryTypes;
}

export function isResourceKind(kind: EntryKind): kind is ResourceKind {
  return entryTypes[kind].isUserFacing;
}

function isPlural(word: string): boolean {
  return kindOfPlural.has(word);
}
