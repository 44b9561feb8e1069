import { randomBytes } from 'node:crypto';
import type { ClusterInformation } from '../model/kinds/cluster-information.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import type { Node } from '../model/kinds/node.ts';
import type { Stamp } from '../model/stamp.ts';
import type { Tier } from '../model/kinds/tier.ts';
import type { Draft } from './writer.ts';

/**
 * A plan that creates the basic objects of a Calico datastore if they are missing: those of `bootstrapCluster`, and this
 * host's Node. Returns whether the datastore was new.
 */
export function bootstrap(
  draft: Draft,
  { nodeName, stamp }: { readonly nodeName: string; readonly stamp: Stamp },
): boolean {
  const isNew = bootstrapCluster(draft, stamp);
  bootstrapNode(draft, { nodeName, stamp });
  return isNew;
}

/** As `bootstrap`, for this host's Node alone. */
export function bootstrapNode(
  draft: Draft,
  { nodeName, stamp }: { readonly nodeName: string; readonly stamp: Stamp },
): void {
  if (isMissing(draft, 'Node', nodeName)) draft.put('Node', nodeName, stamp(newNode(nodeName)));
}

/**
 * A plan that creates what a datastore has once for all hosts: the cluster's identity and the tier `default`.
 * `calicoVersion` stays unset, because no Calico release wrote the data. Returns whether the datastore was new. An unreadable object is left as it is and does not block the others.
 */
export function bootstrapCluster(draft: Draft, stamp: Stamp): boolean {
  const isNew = isMissing(draft, 'ClusterInformation', 'default');
  if (isNew) draft.put('ClusterInformation', 'default', stamp(clusterInformation()));
  if (isMissing(draft, 'Tier', 'default')) draft.put('Tier', 'default', stamp(defaultTier));
  return isNew;
}

function isMissing(draft: Draft, kind: EntryKind, id: string): boolean {
  return draft.get(kind, id) === undefined && !draft.isUnreadable(kind, id);
}

const apiVersion = 'projectcalico.org/v3';

const defaultTier: Tier = {
  kind: 'Tier',
  apiVersion,
  metadata: { name: 'default' },
  spec: { order: 1_000_000, defaultAction: 'Deny' },
};

function clusterInformation(): ClusterInformation {
  return {
    kind: 'ClusterInformation',
    apiVersion,
    metadata: { name: 'default' },
    spec: {
      clusterGUID: randomBytes(16).toString('hex'),
      clusterType: 'docker',
      datastoreReady: true,
    },
  };
}

function newNode(name: string): Node {
  return {
    kind: 'Node',
    apiVersion,
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
    spec: {},
  };
}
