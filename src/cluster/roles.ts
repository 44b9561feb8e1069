import { createHash } from 'node:crypto';
import { prefixReservation } from '../model/kinds/ip-reservation.ts';
import { subnetPoolPrefix } from '../ipam/pools/subnet-pools.ts';
import { clusterKeys } from './records.ts';
import { restoreReportKey } from './restoring/report.ts';
import { entryTypeOf, rootPrefix, type EntryKind } from '../model/kinds/index.ts';
import { lastReportId, liveReportId } from '../model/kinds/node-report.ts';
import { endpointIdsOf } from '../model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../model/namespaces.ts';

/**
 * What a node may do in a cluster's etcd: the permissions of its role, derived from one row per kind. etcd knows only
 * keys and ranges of keys, so a row states which keys of the kind a node may write. A key that no row names can be
 * written only with the admin credential, which the members have.
 */

/** The user and the role of etcd that may do everything. etcd gives the name its meaning. */
export const adminUser = 'root';

/** The prefix of what hosts have copied before a move into the cluster, by node. */
export const movesRoot = '/calico-cnm/moves/';

/** One key, or all keys with a prefix. */
export type KeyRange = { readonly key: string } | { readonly prefix: string };

/** A permission of a role. */
export type Permission = KeyRange & { readonly access: 'read' | 'write' | 'both' };

/** Which keys of a kind a node may write, with the reason for the documentation. */
export interface NodeAccess {
  /** In words: `none`, `its own`, or which others. */
  readonly writes: string;
  readonly ranges: (node: string) => readonly KeyRange[];
  readonly why: string;
}

/**
 * Returns the name of a node's user and role in etcd, which is the common name of its certificate. It differs from the
 * name of the node, because a node may be called `root`. A common name has at most 64 characters (RFC 5280, appendix
 * A.1), so a longer one ends with a hash, after a character that no name of a node contains.
 */
export function etcdUserOf(node: string): string {
  const user = `node.${node}`;
  if (user.length <= 64) return user;
  return `${user.slice(0, 31)}_${createHash('sha256').update(node).digest('hex').slice(0, 32)}`;
}

const none = (why: string): NodeAccess => ({ writes: 'none', ranges: () => [], why });

const all = (kind: EntryKind, why: string): NodeAccess => ({
  writes: 'all',
  ranges: () => [{ prefix: entryTypeOf[kind].prefix }],
  why,
});

/** The records below a prefix that ends with the node's name and a character that no node name contains. */
const own = (kind: EntryKind, why: string): NodeAccess => ({
  writes: 'its own',
  ranges: (node) => [{ prefix: `${entryTypeOf[kind].prefix}${node}/` }],
  why,
});

const key = (kind: EntryKind, id: string): KeyRange => ({ key: entryTypeOf[kind].key(id) });

/**
 * Returns the keys of a node's endpoints in a namespace. The name of the node is escaped; what follows keeps node `a` from
 * the endpoints of node `a-b`.
 */
export function endpointsInNamespace(node: string, namespace: string): { readonly prefix: string } {
  return { prefix: entryTypeOf.WorkloadEndpoint.key(endpointIdsOf(node, namespace)) };
}

/** Reports whether a prefix is that of a node's endpoints in some namespace. */
export function isOfEndpoints(node: string, prefix: string): boolean {
  const [, namespace = ''] = prefix
    .slice(entryTypeOf.WorkloadEndpoint.prefix.length - 1)
    .split('/');
  return namespace !== '' && prefix === endpointsInNamespace(node, namespace).prefix;
}

const policy = 'policy is decided for the whole cluster';
const settings = 'settings of all nodes';
const records =
  'written in one transaction with the block, which another node may lend, take over or delete';

/** What a node may write of each kind of value. A kind that is not listed yet is written by no node. */
const decided: Readonly<Partial<Record<EntryKind, NodeAccess>>> = {
  IPPool: {
    writes: `those named \`${subnetPoolPrefix}…\``,
    ranges: () => [{ prefix: entryTypeOf.IPPool.key(subnetPoolPrefix) }],
    why: '`docker network create --subnet` creates one, and the last `docker network rm` deletes it',
  },
  IPReservation: {
    writes: `\`${prefixReservation}\``,
    ranges: () => [key('IPReservation', prefixReservation)],
    why: 'it lists the prefixes behind the containers of all nodes',
  },
  Profile: all('Profile', '`docker network create` creates the Profile of the network'),
  NetworkSet: none(policy),
  GlobalNetworkSet: none(policy),
  WorkloadEndpoint: {
    writes: 'its own',
    ranges: (node) => [endpointsInNamespace(node, defaultNamespace)],
    why: 'its containers; in other namespaces once it has a network there',
  },
  Node: {
    writes: 'its own',
    ranges: (node) => [key('Node', node)],
    why: 'its addresses, also those of its tunnels',
  },
  Tier: none(policy),
  NetworkPolicy: none(policy),
  GlobalNetworkPolicy: none(policy),
  StagedNetworkPolicy: none(policy),
  StagedGlobalNetworkPolicy: none(policy),
  HostEndpoint: none(policy),
  BGPConfiguration: none(settings),
  BGPPeer: none(settings),
  BGPFilter: none(settings),
  CalicoNodeStatus: all(
    'CalicoNodeStatus',
    'a node writes the `status` of those that name it; etcd cannot tell them apart',
  ),
  FelixConfiguration: none(settings),
  ClusterInformation: none('the lock of the datastore; every transaction of a node compares it'),
  OtherResource: none('no node uses them'),
  Block4: all('Block4', 'nodes lend each other addresses of their blocks'),
  Block6: all('Block6', 'nodes lend each other addresses of their blocks'),
  Affinity4: all('Affinity4', records),
  Affinity6: all('Affinity6', records),
  Handle: all('Handle', records),
  IpamConfig: none(settings),
  DockerNetwork: own('DockerNetwork', 'the networks of its Docker'),
  DockerPool: own('DockerPool', 'the pools that its Docker requested'),
  NodeReport: {
    writes: 'its own',
    ranges: (node) => [liveReportId(node), lastReportId(node)].map((id) => key('NodeReport', id)),
    why: 'it reports that it lives',
  },
  NetworkDefinition: all(
    'NetworkDefinition',
    '`calico-cnm network create` works on every node, and the last node that removed a network deletes its definition',
  ),
  NetworkReport: own('NetworkReport', 'its state of the networks of all hosts'),
};

/** Returns what a node may write of a kind of value. */
export function nodeAccess(kind: EntryKind): NodeAccess {
  return decided[kind] ?? none('');
}

/** Returns the permissions of a node's role. */
export function nodePermissions(node: string): readonly Permission[] {
  const read: Permission[] = [
    { prefix: rootPrefix, access: 'read' },
    { prefix: clusterKeys.hosts, access: 'read' },
    { prefix: clusterKeys.reports, access: 'read' },
    { key: clusterKeys.settings, access: 'read' },
  ];
  const written = Object.values(decided).flatMap(({ ranges }) => ranges(node));
  const reports = [{ key: clusterKeys.report(node) }, { key: restoreReportKey(node) }];
  const write = [...written, ...reports].map((range) => ({
    ...range,
    access: 'write' as const,
  }));
  const distinct = new Map([...read, ...write].map((one) => [JSON.stringify(one), one]));
  return [...distinct.values()];
}

/** Returns the name of the role that a node has in addition while it moves its own datastore into the cluster. */
export function moveRoleOf(node: string): string {
  return `move.${etcdUserOf(node)}`;
}

/** Returns the permissions of that role: everything that its datastore may contain, and its copies before the move. */
export function movePermissions(node: string): readonly Permission[] {
  return [
    { prefix: rootPrefix, access: 'both' },
    { prefix: `${movesRoot}${node}/`, access: 'both' },
  ];
}

/** Reports whether permissions include an access to a key. */
export function permits(
  permissions: readonly Permission[],
  access: 'read' | 'write',
  wanted: string,
): boolean {
  return permissions.some((one) => {
    if (one.access !== access && one.access !== 'both') return false;
    return 'key' in one ? one.key === wanted : wanted.startsWith(one.prefix);
  });
}
