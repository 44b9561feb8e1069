import type { View } from '../../cache/view.ts';
import { namespaceOfOptions } from '../../driver/networks/network-options.ts';
import { namespaceOfNetwork } from '../../model/kinds/docker-network.ts';
import type { Resource } from '../../model/kinds/index.ts';
import { defaultNamespace } from '../../model/namespaces.ts';
import { resourceId } from '../../model/resource-type.ts';

/**
 * Returns a sentence for each applied policy of a namespace without networks and endpoints, such as `default`, to which
 * a policy without a namespace belongs.
 */
export function namespaceNotes(view: View, resources: readonly Resource[]): readonly string[] {
  const policies = resources.filter(
    ({ kind }) => kind === 'NetworkPolicy' || kind === 'StagedNetworkPolicy',
  );
  const others = policies.filter(({ metadata }) => metadata.namespace !== defaultNamespace);
  if (others.length === 0) return [];
  const used = new Set([
    ...Array.from(view.list('DockerNetwork').values(), ({ value }) => namespaceOfNetwork(value)),
    ...Array.from(view.list('NetworkDefinition').values(), ({ value }) =>
      namespaceOfOptions(value.options),
    ),
  ]);
  return others.flatMap((policy) => {
    const { namespace = '' } = policy.metadata;
    if (used.has(namespace) || hasEndpoints(view, namespace)) return [];
    return [
      `${policy.kind} ${resourceId(policy)} selects nothing: no network is in namespace ${namespace}, and networks that name none are in ${defaultNamespace}`,
    ];
  });
}

function hasEndpoints(view: View, namespace: string): boolean {
  const prefix = `${namespace}/`;
  return [...view.list('WorkloadEndpoint', prefix).keys()].some((id) => id.startsWith(prefix));
}
