import { z } from 'zod';
import {
  asNumber,
  bgpLimits,
  communityProblem,
  durationProblem,
  isCommunity,
  password,
  rangeProblem,
  specProblems,
  wordProblem,
} from '../bgp.ts';
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

/** Annotation of BGPConfiguration `default`: `on` lets hosts with calico-cnm speak BGP. */
export const bgpAnnotation = 'docker.projectcalico.org/bgp';

/**
 * Reports whether hosts speak BGP, by BGPConfiguration `default`. Calico's own hosts do so without being told; for Docker
 * hosts, which need BIRD for it, it is a decision.
 */
export function isBgpEnabled(configuration: BgpConfiguration | undefined): boolean {
  return configuration?.metadata.annotations?.[bgpAnnotation] === 'on';
}

export const bgpConfigurationType: ResourceType<BgpConfiguration> = resourceType({
  kind: 'BGPConfiguration',
  plural: 'bgpconfigurations',
  aliases: ['bgpconfig'],
  meaning: 'BGP settings of all nodes (`default`) or of one (`node.<name>`)',
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
  fieldsWithoutEffect: ({ spec }) => [
    ...withoutEffect.filter((field) => isSet(spec[field])).map((field) => `spec.${field}`),
    // The default is written to every configuration.
    ...(['Enabled', ''].includes(spec.serviceLoadBalancerAggregation ?? '')
      ? []
      : ['spec.serviceLoadBalancerAggregation']),
  ],
  validate: configurationProblem,
});

/** Severities of the log, as Calico writes them; `None` as well. */
export const logSeverities = ['Debug', 'Info', 'Warning', 'Error', 'Fatal', 'None'] as const;

/** Returns the values that have no meaning: where they are stored nevertheless, the default is used. */
export function valueProblems(spec: BgpConfiguration['spec']): readonly Problem[] {
  const severity = logSeverities.find(
    (one) => one.toLowerCase() === spec.logSeverityScreen?.toLowerCase(),
  );
  const interfaces = (spec.ignoredInterfaces ?? []).find((name) => !interfacePattern.test(name));
  return specProblems({
    logSeverityScreen: wordProblem(severity ?? spec.logSeverityScreen, logSeverities),
    bindMode: wordProblem(spec.bindMode, ['None', 'NodeIP']),
    programClusterRoutes: wordProblem(spec.programClusterRoutes, [
      'Disabled',
      'EnabledIPIPOnly',
      'EnabledNoEncapOnly',
      'Enabled',
    ]),
    ignoredInterfaces:
      interfaces === undefined ? interfaces : `"${interfaces}" is not a name or pattern`,
    ipv4NormalRoutePriority: rangeProblem(spec.ipv4NormalRoutePriority, bgpLimits.priority),
    ipv6NormalRoutePriority: rangeProblem(spec.ipv6NormalRoutePriority, bgpLimits.priority),
  });
}

/** Names of interfaces, with `*` and `?` as in a shell. */
export const interfacePattern = /^[\w.*?:@+-]+$/;

/** Docker has no Services, and containers do not speak BGP. */
const withoutEffect = [
  'serviceLoadBalancerIPs',
  'serviceExternalIPs',
  'serviceClusterIPs',
  'localWorkloadPeeringIPV4',
  'localWorkloadPeeringIPV6',
] as const;

function isSet(value: unknown): boolean {
  return value !== undefined && value !== '' && !(Array.isArray(value) && value.length === 0);
}

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
  const [wrongValue] = valueProblems(spec);
  if (wrongValue !== undefined) return wrongValue;
  const restart = durationProblem(spec.nodeMeshMaxRestartTime, bgpLimits.restartSeconds);
  if (restart !== undefined) return { field: 'spec.nodeMeshMaxRestartTime', why: restart };
  if (spec.asNumber === 0) return { field: 'spec.asNumber', why: '0 is reserved' };
  const { communities = [], prefixAdvertisements = [] } = spec;
  const wrong = communityProblem(communities.map(({ value = '' }) => value));
  if (wrong !== undefined) return { field: 'spec.communities', why: wrong };
  const names = new Set(communities.map(({ name }) => name));
  const unknown = prefixAdvertisements
    .flatMap(({ communities: used = [] }) => used)
    .find((used) => !names.has(used) && !isCommunity(used));
  return unknown === undefined
    ? undefined
    : { field: 'spec.prefixAdvertisements', why: `community ${unknown} is not defined` };
}
