import { z } from 'zod';
import { asNumber, isCommunity, password } from '../bgp.ts';
import { net, resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';

const networks = z.exactOptional(z.array(z.looseObject({ cidr: z.exactOptional(net) })));

const bgpConfiguration = resource(
  'BGPConfiguration',
  z.looseObject({
    logSeverityScreen: z.exactOptional(z.string()),
    nodeToNodeMeshEnabled: z.exactOptional(z.boolean()),
    asNumber: z.exactOptional(asNumber),
    serviceLoadBalancerIPs: networks,
    serviceExternalIPs: networks,
    serviceClusterIPs: networks,
    serviceLoadBalancerAggregation: z.exactOptional(z.string()),
    communities: z.exactOptional(
      z.array(
        z.looseObject({ name: z.exactOptional(z.string()), value: z.exactOptional(z.string()) }),
      ),
    ),
    prefixAdvertisements: z.exactOptional(
      z.array(
        z.looseObject({
          cidr: z.exactOptional(net),
          communities: z.exactOptional(z.array(z.string())),
        }),
      ),
    ),
    listenPort: z.exactOptional(z.int().min(0).max(65_535)),
    nodeMeshPassword: z.exactOptional(password),
    nodeMeshMaxRestartTime: z.exactOptional(z.string()),
    bindMode: z.exactOptional(z.string()),
    ignoredInterfaces: z.exactOptional(z.array(z.string())),
    localWorkloadPeeringIPV4: z.exactOptional(z.string()),
    localWorkloadPeeringIPV6: z.exactOptional(z.string()),
    programClusterRoutes: z.exactOptional(z.string()),
    ipv4NormalRoutePriority: z.exactOptional(z.int()),
    ipv6NormalRoutePriority: z.exactOptional(z.int()),
  }),
);

/** BGP of all hosts (`default`) or of one (`node.<name>`). */
export type BgpConfiguration = z.infer<typeof bgpConfiguration>;

export const bgpConfigurationType: ResourceType<BgpConfiguration> = resourceType({
  kind: 'BGPConfiguration',
  plural: 'bgpconfigurations',
  aliases: ['bgpconfig'],
  meaning: 'BGP settings of all nodes (`default`) or of one (`node.<name>`)',
  unenforced: { isPolicy: false },
  schema: bgpConfiguration,
  columns: [
    nameColumn,
    { header: 'logseverity', cell: ({ spec }) => spec.logSeverityScreen ?? '' },
    { header: 'meshenabled', cell: ({ spec }) => String(spec.nodeToNodeMeshEnabled ?? '-') },
    { header: 'asnumber', cell: ({ spec }) => String(spec.asNumber ?? '-') },
  ],
  withDefaults: (configuration) => ({
    ...configuration,
    spec: {
      logSeverityScreen: 'Info',
      serviceLoadBalancerAggregation: 'Enabled',
      ...configuration.spec,
    },
  }),
  validate: configurationProblem,
});

/** Fields allowed only in the configuration of all hosts. */
const globalFields = [
  'nodeToNodeMeshEnabled',
  'asNumber',
  'serviceClusterIPs',
  'serviceExternalIPs',
  'serviceLoadBalancerIPs',
  'nodeMeshPassword',
  'nodeMeshMaxRestartTime',
] as const;

/** Rules: libcalico-go/lib/clientv3/bgpconfig.go and the CEL rules of the API. */
function configurationProblem({ metadata, spec }: BgpConfiguration): Problem | undefined {
  if (metadata.name !== 'default' && !metadata.name.startsWith('node.')) {
    return { field: 'metadata.name', why: 'must be default, or node. and the name of a Node' };
  }
  const global = globalFields.find((field) => spec[field] !== undefined);
  if (metadata.name !== 'default' && global !== undefined) {
    return { field: `spec.${global}`, why: 'can be set in BGPConfiguration default only' };
  }
  for (const field of ['nodeMeshPassword', 'nodeMeshMaxRestartTime'] as const) {
    if (spec.nodeToNodeMeshEnabled === false && spec[field] !== undefined) {
      return { field: `spec.${field}`, why: 'needs nodeToNodeMeshEnabled' };
    }
  }
  const { communities = [], prefixAdvertisements = [] } = spec;
  const wrong = communities.find(({ value = '' }) => !isCommunity(value));
  if (wrong !== undefined) {
    return {
      field: 'spec.communities',
      why: `"${wrong.value ?? ''}" is not a community aa:nn or aa:nn:mm`,
    };
  }
  const names = new Set(communities.map(({ name }) => name));
  const unknown = prefixAdvertisements
    .flatMap(({ communities: used = [] }) => used)
    .find((used) => !names.has(used) && !isCommunity(used));
  return unknown === undefined
    ? undefined
    : { field: 'spec.prefixAdvertisements', why: `community ${unknown} is not defined` };
}
