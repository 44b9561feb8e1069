import { z } from 'zod';
import { openObject, resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';
import { selectorProblem } from '../selector/problem.ts';

const flag = z.exactOptional(z.boolean());
const count = z.exactOptional(z.int());
const text = z.exactOptional(z.string());
const ports = z.exactOptional(
  z.array(
    z.looseObject({ protocol: text, port: z.exactOptional(z.int().min(0).max(65_535)), net: text }),
  ),
);

/** Fields with a duration, such as `90s`. */
const times = {
  routeRefreshInterval: text,
  interfaceRefreshInterval: text,
  iptablesRefreshInterval: text,
  iptablesPostWriteCheckInterval: text,
  ipsetsRefreshInterval: text,
  netlinkTimeout: text,
  reportingInterval: text,
  wireguardKeepAlive: text,
  flowLogsFlushInterval: text,
};

/** Felix has some 170 fields, and more with each release: those relevant to Docker hosts are checked. */
const felixConfiguration = resource(
  'FelixConfiguration',
  openObject({
    nodeSelector: text,
    ipv6Support: flag,
    ...times,
    interfacePrefix: text,
    interfaceExclude: text,
    chainInsertMode: text,
    defaultEndpointToHostAction: text,
    iptablesFilterAllowAction: text,
    iptablesMangleAllowAction: text,
    iptablesFilterDenyAction: text,
    iptablesBackend: text,
    nftablesMode: text,
    logPrefix: text,
    logSeverityScreen: text,
    maxIpsetSize: count,
    failsafeInboundHostPorts: ports,
    failsafeOutboundHostPorts: ports,
    ipipEnabled: flag,
    ipipMTU: count,
    vxlanEnabled: flag,
    vxlanMTU: count,
    vxlanMTUV6: count,
    vxlanPort: count,
    vxlanVNI: count,
    allowVXLANPacketsFromWorkloads: flag,
    allowIPIPPacketsFromWorkloads: flag,
    workloadSourceSpoofing: text,
    wireguardEnabled: flag,
    wireguardEnabledV6: flag,
    wireguardListeningPort: count,
    wireguardListeningPortV6: count,
    wireguardMTU: count,
    wireguardMTUV6: count,
    natOutgoingAddress: text,
    externalNodesList: z.exactOptional(z.array(z.string())),
    healthEnabled: flag,
    healthHost: text,
    healthPort: count,
    prometheusMetricsEnabled: flag,
    prometheusMetricsHost: text,
    prometheusMetricsPort: count,
    endpointReportingEnabled: flag,
    removeExternalRoutes: flag,
    programClusterRoutes: text,
    floatingIPs: text,
  }),
);

/** Settings of Felix on all hosts (`default`), on one (`node.<name>`), or on those that a selector says. */
export type FelixConfiguration = z.infer<typeof felixConfiguration>;

export const felixConfigurationType: ResourceType<FelixConfiguration> = resourceType({
  kind: 'FelixConfiguration',
  plural: 'felixconfigurations',
  aliases: ['felixconfig'],
  meaning: 'Felix settings of all nodes (`default`) or of one (`node.<name>`)',
  unenforced: { isPolicy: false },
  schema: felixConfiguration,
  columns: [nameColumn],
  validate: configurationProblem,
});

/** Rules: felix/config and the API's patterns. */
function configurationProblem({ metadata, spec }: FelixConfiguration): Problem | undefined {
  const { name } = metadata;
  if (name !== 'default' && !name.startsWith('node.') && (spec.nodeSelector ?? '') === '') {
    return {
      field: 'metadata.name',
      why: 'must be default, or node. and the name of a Node, unless there is a nodeSelector',
    };
  }
  const why = selectorProblem(spec.nodeSelector);
  if (why !== undefined) return { field: 'spec.nodeSelector', why };
  for (const field of Object.keys(times)) {
    const value = spec[field];
    if (typeof value === 'string' && !/^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$/.test(value)) {
      return { field: `spec.${field}`, why: `"${value}" is not a duration such as 90s or 1m30s` };
    }
  }
  return undefined;
}
