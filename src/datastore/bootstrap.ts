import { randomBytes } from 'node:crypto';
import type { ClusterInformation } from '../model/kinds/cluster-information.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import type { Node } from '../model/kinds/node.ts';
import type { Stamp } from '../model/stamp.ts';
import type { Tier } from '../model/kinds/tier.ts';
import type { Draft } from './writer.ts';

/**
 * A plan that creates the basic objects of a Calico datastore if they are missing: the cluster's identity, the tier
 * `default`, and this host's Node. `calicoVersion` stays unset, because no Calico release wrote the data.
 * Returns whether the datastore was new. An unreadable object is left as it is and does not block the others.
 */
export function bootstrap(
  draft: Draft,
  { nodeName, stamp }: { readonly nodeName: string; readonly stamp: Stamp },
): boolean {
  const isMissing = (kind: EntryKind, id: string) =>
    draft.get(kind, id) === undefined && !draft.isUnreadable(kind, id);
  const isNew = isMissing('ClusterInformation', 'default');
  if (isNew) draft.put('ClusterInformation', 'default', stamp(clusterInformation()));
  if (isMissing('Tier', 'default')) {
    draft.put('Tier', 'default', stamp(defaultTier));
  }
  if (isMissing('Node', nodeName)) {
    draft.put('Node', nodeName, stamp(newNode(nodeName)));
  }
  return isNew;
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
