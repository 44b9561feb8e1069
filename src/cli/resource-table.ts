import type { LiveMirror } from '../cache/live-mirror.ts';
import { dockerNameOf } from '../model/names.ts';
import { poolIsEnabled } from '../model/kinds/ip-pool.ts';
import { profileTags } from '../model/kinds/profile.ts';
import { endpointTitle } from '../model/kinds/workload-endpoint.ts';
import type { Resource, ResourceKind } from '../model/user-input.ts';
import { counted, formatTable } from './table.ts';

/** The stored resources of a kind in the order of their names, each with its revision. */
export function readResources(mirror: LiveMirror, kind: ResourceKind): readonly Resource[] {
  const found: Resource[] = [];
  for (const { value, modRevision } of mirror.list(kind).values()) {
    const resourceVersion = modRevision.toString();
    found.push({ ...value, metadata: { ...value.metadata, resourceVersion } });
  }
  return found.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** Resources of one kind as a table. */
export function formatResources(kind: ResourceKind, resources: readonly Resource[]): string {
  return formatTable(headers[kind], resources.map(row));
}

const headers: Readonly<Record<ResourceKind, readonly string[]>> = {
  IPPool: ['name', 'cidr', 'nat', 'ipip', 'vxlan', 'enabled', 'selector'],
  IPReservation: ['name', 'cidrs'],
  NetworkSet: ['namespace', 'name', 'nets'],
  GlobalNetworkSet: ['name', 'nets'],
  Profile: ['name', 'docker name', 'tags', 'inbound', 'outbound'],
  WorkloadEndpoint: ['container', 'node', 'addresses', 'interface', 'profiles'],
  Node: ['name', 'labels'],
  Tier: ['name', 'order'],
  ClusterInformation: ['name', 'guid', 'type', 'datastore ready'],
};

function row(resource: Resource): readonly string[] {
  const { name } = resource.metadata;
  switch (resource.kind) {
    case 'IPPool': {
      const { cidr, natOutgoing, ipipMode, vxlanMode, nodeSelector } = resource.spec;
      return [
        name,
        cidr,
        String(natOutgoing ?? false),
        ipipMode ?? 'Never',
        vxlanMode ?? 'Never',
        String(poolIsEnabled(resource)),
        nodeSelector ?? 'all()',
      ];
    }
    case 'IPReservation':
      return [name, (resource.spec.reservedCIDRs ?? []).join(',')];
    case 'NetworkSet':
      return [resource.metadata.namespace ?? '', name, (resource.spec.nets ?? []).join(',')];
    case 'GlobalNetworkSet':
      return [name, (resource.spec.nets ?? []).join(',')];
    case 'Profile': {
      const { ingress = [], egress = [] } = resource.spec;
      const tags = profileTags(resource).map(dockerNameOf).join(',');
      return [
        name,
        dockerNameOf(name),
        tags,
        counted(ingress.length, 'rule'),
        counted(egress.length, 'rule'),
      ];
    }
    case 'WorkloadEndpoint': {
      const { node, ipNetworks, interfaceName, profiles } = resource.spec;
      return [
        endpointTitle(resource),
        node,
        (ipNetworks ?? []).join(','),
        interfaceName,
        (profiles ?? []).map(dockerNameOf).join(','),
      ];
    }
    case 'Node': {
      const labels = Object.entries(resource.metadata.labels ?? {});
      return [name, labels.map(([key, value]) => `${key}=${value}`).join(',')];
    }
    case 'Tier':
      return [name, String(resource.spec.order ?? '')];
    case 'ClusterInformation':
      return [
        name,
        resource.spec.clusterGUID ?? '',
        resource.spec.clusterType ?? '',
        String(resource.spec.datastoreReady ?? true),
      ];
    default:
      return [];
  }
}
