import { z } from 'zod';
import { mapOf, unwrapped } from './nulls.ts';
import type { Problem } from './resource-type.ts';

/**
 * The fields of FelixConfiguration as data: name → type, in the order in which Calico writes them. Source: Calico v3
 * API, `FelixConfigurationSpec` at v3.33. Stored values must have the type of their field; the further rules, such as a
 * range or a list of words, hold for user input only, because Felix replaces a bad value by its default.
 */

/** Returns why a value breaks the rule of its field. */
type Rule = (value: unknown) => string | undefined;

const rules = z.registry<Rule>();

const flag = z.exactOptional(z.boolean());
const text = z.exactOptional(z.string());
const duration = matching(
  /^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$/,
  'is not a duration such as 90s or 1m30s',
);
const timeout = matching(
  /^(([0-9]+(\.[0-9]*)?(ms|us|s|m|h))+|Auto)?$/,
  'is neither Auto nor a duration such as 90s',
);
const port = integer(0, 65_535);
const mark = integer(0, 4_294_967_295);
const priority = integer(1, 2_147_483_646);
const portOrRange = z.union([z.int(), z.string()], 'must be a port or a range such as 8000:8010');
const range = z.looseObject({ min: integer(1), max: integer(1) });
const protocolPorts = listOf(z.looseObject({ protocol: text, port, net: text }));
const healthTimeouts = listOf(z.looseObject({ name: text, timeout: duration }));
const conntrackTimeouts = z.exactOptional(
  z.looseObject({
    creationGracePeriod: timeout,
    tcpSynSent: timeout,
    tcpEstablished: timeout,
    tcpFinsSeen: timeout,
    tcpResetSeen: timeout,
    udpTimeout: timeout,
    genericTimeout: timeout,
    icmpTimeout: timeout,
  }),
);

/** All fields of release v3.33. */
export const felixFields = {
  nodeSelector: text,
  useInternalDataplaneDriver: flag,
  dataplaneDriver: text,
  dataplaneWatchdogTimeout: duration,
  ipv6Support: flag,
  routeRefreshInterval: duration,
  interfaceRefreshInterval: duration,
  iptablesRefreshInterval: duration,
  iptablesPostWriteCheckInterval: duration,
  iptablesLockProbeInterval: duration,
  featureDetectOverride: text,
  featureGates: text,
  ipsetsRefreshInterval: duration,
  maxIpsetSize: integer(),
  iptablesBackend: oneOf('Auto', 'Legacy', 'NFT'),
  xdpRefreshInterval: duration,
  netlinkTimeout: duration,
  metadataAddr: text,
  metadataPort: integer(),
  openstackRegion: text,
  interfacePrefix: text,
  interfaceExclude: text,
  chainInsertMode: oneOf('Insert', 'Append'),
  defaultEndpointToHostAction: oneOf('Drop', 'Accept', 'Return'),
  iptablesFilterAllowAction: oneOf('Accept', 'Return'),
  iptablesMangleAllowAction: oneOf('Accept', 'Return'),
  iptablesFilterDenyAction: oneOf('Drop', 'Reject'),
  logPrefix: text,
  logActionRateLimit: text,
  logActionRateLimitBurst: integer(0, 9_999),
  logFilePath: text,
  logSeverityFile: oneOf('Trace', 'Debug', 'Info', 'Warning', 'Error', 'Fatal'),
  logSeverityScreen: oneOf('Trace', 'Debug', 'Info', 'Warning', 'Error', 'Fatal'),
  logSeveritySys: oneOf('Trace', 'Debug', 'Info', 'Warning', 'Error', 'Fatal'),
  logDebugFilenameRegex: text,
  ipipEnabled: flag,
  ipipMTU: integer(),
  vxlanEnabled: flag,
  vxlanMTU: integer(),
  vxlanMTUV6: integer(),
  vxlanPort: integer(),
  vxlanVNI: integer(),
  allowVXLANPacketsFromWorkloads: flag,
  allowIPIPPacketsFromWorkloads: flag,
  reportingInterval: duration,
  reportingTTL: duration,
  endpointReportingEnabled: flag,
  endpointReportingDelay: duration,
  endpointStatusPathPrefix: text,
  iptablesMarkMask: mark,
  disableConntrackInvalidCheck: flag,
  healthEnabled: flag,
  healthHost: text,
  healthPort: integer(),
  healthTimeoutOverrides: healthTimeouts,
  prometheusMetricsEnabled: flag,
  prometheusMetricsHost: text,
  prometheusMetricsPort: integer(),
  prometheusGoMetricsEnabled: flag,
  prometheusProcessMetricsEnabled: flag,
  prometheusWireGuardMetricsEnabled: flag,
  prometheusMetricsCAFile: text,
  prometheusMetricsCertFile: text,
  prometheusMetricsKeyFile: text,
  prometheusMetricsClientAuth: oneOf(
    'RequireAndVerifyClientCert',
    'RequireAnyClientCert',
    'VerifyClientCertIfGiven',
    'NoClientCert',
  ),
  failsafeInboundHostPorts: protocolPorts,
  failsafeOutboundHostPorts: protocolPorts,
  kubeNodePortRanges: listOf(portOrRange),
  policySyncPathPrefix: text,
  usageReportingEnabled: flag,
  usageReportingInitialDelay: duration,
  usageReportingInterval: duration,
  natPortRange: z.exactOptional(portOrRange),
  natOutgoingAddress: text,
  natOutgoingExclusions: oneOf('IPPoolsOnly', 'IPPoolsAndHostIPs'),
  deviceRouteSourceAddress: text,
  deviceRouteSourceAddressIPv6: text,
  deviceRouteProtocol: integer(),
  removeExternalRoutes: flag,
  programClusterRoutes: oneOf('Enabled', 'Disabled', 'EnabledIPIPOnly', 'EnabledNoEncapOnly'),
  ipForwarding: oneOf('Enabled', 'Disabled'),
  externalNodesList: listOf(z.string()),
  debugMemoryProfilePath: text,
  debugDisableLogDropping: flag,
  debugSimulateCalcGraphHangAfter: duration,
  debugSimulateDataplaneHangAfter: duration,
  debugSimulateDataplaneApplyDelay: duration,
  debugHost: text,
  debugPort: port,
  iptablesNATOutgoingInterfaceFilter: text,
  sidecarAccelerationEnabled: flag,
  xdpEnabled: flag,
  genericXDPEnabled: flag,
  nftablesMode: oneOf('Disabled', 'Enabled', 'Auto'),
  nftablesFlowTableOffload: oneOf('All', 'Disabled'),
  nftablesFlowTableDataIfacePattern: text,
  nftablesRefreshInterval: duration,
  nftablesFilterAllowAction: oneOf('Accept', 'Return'),
  nftablesMangleAllowAction: oneOf('Accept', 'Return'),
  nftablesFilterDenyAction: oneOf('Drop', 'Reject'),
  nftablesMarkMask: mark,
  bpfEnabled: flag,
  bpfOverlayHostSourceIP: oneOf('TunnelAddress', 'HostAddress'),
  bpfDisableUnprivileged: flag,
  bpfJITHardening: oneOf('Auto', 'Strict'),
  bpfLogLevel: oneOf('Off', 'Info', 'Debug'),
  bpfConntrackLogLevel: oneOf('Off', 'Debug'),
  bpfConntrackMode: oneOf('Auto', 'Userspace', 'BPFProgram'),
  bpfConntrackTimeouts: conntrackTimeouts,
  bpfIPFragTimeout: duration,
  bpfLogFilters: z.exactOptional(mapOf(z.string(), z.string(), '')),
  bpfCTLBLogFilter: text,
  bpfDataIfacePattern: text,
  bpfL3IfacePattern: text,
  bpfConnectTimeLoadBalancingEnabled: flag,
  bpfConnectTimeLoadBalancing: oneOf('TCP', 'Enabled', 'Disabled'),
  bpfHostNetworkedNATWithoutCTLB: oneOf('Enabled', 'Disabled'),
  bpfExternalServiceMode: oneOf('Tunnel', 'DSR'),
  bpfDSROptoutCIDRs: listOf(z.string()),
  bpfExtToServiceConnmark: mark,
  bpfKubeProxyIptablesCleanupEnabled: flag,
  bpfKubeProxyMinSyncPeriod: duration,
  bpfKubeProxyHealthzPort: port,
  bpfPSNATPorts: z.exactOptional(portOrRange),
  bpfMapSizeNATFrontend: integer(),
  bpfMapSizeNATBackend: integer(),
  bpfMapSizeNATAffinity: integer(),
  bpfMapSizeRoute: integer(),
  bpfMapSizeConntrack: integer(),
  bpfMapSizePerCpuConntrack: integer(),
  bpfMapSizeConntrackScaling: oneOf('Disabled', 'DoubleIfFull'),
  bpfMapSizeConntrackCleanupQueue: integer(1),
  bpfMapSizeIPSets: integer(),
  bpfMapSizeIfState: integer(),
  bpfHostConntrackBypass: flag,
  bpfIPFragmentReassemblyEnabled: flag,
  bpfEnforceRPF: oneOf('Disabled', 'Strict', 'Loose'),
  bpfPolicyDebugEnabled: flag,
  bpfForceTrackPacketsFromIfaces: listOf(z.string()),
  bpfDisableGROForIfaces: text,
  bpfExcludeCIDRsFromNAT: listOf(z.string()),
  bpfExportBufferSizeMB: integer(),
  istioAmbientMode: oneOf('Enabled', 'Disabled'),
  istioDSCPMark: z.exactOptional(
    z.union([z.int(), z.string()], 'must be a number or a name such as AF11'),
  ),
  cgroupV2Path: text,
  flowLogsPolicyEvaluationMode: oneOf('None', 'Continuous'),
  bpfRedirectToPeer: oneOf('Enabled', 'Disabled'),
  bpfAttachType: oneOf('TC', 'TCX', 'Netkit'),
  flowLogsFlushInterval: duration,
  flowLogsCollectorDebugTrace: flag,
  flowLogsGoldmaneServer: text,
  flowLogsLocalReporter: oneOf('Disabled', 'Enabled'),
  bpfProfiling: oneOf('Enabled', 'Disabled'),
  routeSource: oneOf('WorkloadIPs', 'CalicoIPAM'),
  routeTableRanges: listOf(range),
  routeTableRange: z.exactOptional(range),
  routeSyncDisabled: flag,
  ipv4NormalRoutePriority: priority,
  ipv4ElevatedRoutePriority: priority,
  ipv6NormalRoutePriority: priority,
  ipv6ElevatedRoutePriority: priority,
  liveMigrationRouteConvergenceTime: duration,
  wireguardEnabled: flag,
  wireguardEnabledV6: flag,
  wireguardThreadingEnabled: flag,
  wireguardListeningPort: integer(1, 65_535),
  wireguardListeningPortV6: integer(1, 65_535),
  wireguardRoutingRulePriority: integer(1, 32_765),
  wireguardInterfaceName: text,
  wireguardInterfaceNameV6: text,
  wireguardMTU: integer(),
  wireguardMTUV6: integer(),
  wireguardHostEncryptionEnabled: flag,
  wireguardKeepAlive: duration,
  awsSrcDstCheck: oneOf('DoNothing', 'Enable', 'Disable'),
  serviceLoopPrevention: oneOf('Drop', 'Reject', 'Disabled'),
  workloadSourceSpoofing: oneOf('Disabled', 'Any'),
  mtuIfacePattern: text,
  floatingIPs: oneOf('Enabled', 'Disabled'),
  localSubnetL2Reachability: oneOf('Disabled', 'PodsAndLoadBalancers'),
  localSubnetL2ReachabilityRefreshInterval: duration,
  windowsManageFirewallRules: oneOf('Enabled', 'Disabled'),
  goGCThreshold: integer(-1),
  goMemoryLimitMB: integer(-1),
  goMaxProcs: integer(-1),
  requireMTUFile: flag,
  bpfMaglevMaxEndpointsPerService: integer(1, 3_000),
  bpfMaglevMaxServices: integer(1, 3_000),
};

function listOf<Item extends z.ZodType>(item: Item) {
  return z.exactOptional(z.array(item));
}

/** An integer; users may give one of a range only. */
function integer(least = -Infinity, greatest = Infinity) {
  const between =
    greatest === Infinity ? `must be at least ${least}` : `must be from ${least} to ${greatest}`;
  return z
    .exactOptional(z.int())
    .register(rules, (value) =>
      typeof value === 'number' && (value < least || value > greatest) ? between : undefined,
    );
}

/** A word of a list, in upper or lower case as in Felix; empty: Felix's default. */
function oneOf(...words: readonly string[]) {
  const known = new Set(['', ...words.map((word) => word.toLowerCase())]);
  return z
    .exactOptional(z.string())
    .register(rules, (value) =>
      typeof value === 'string' && !known.has(value.toLowerCase())
        ? `must be one of ${words.join(', ')}`
        : undefined,
    );
}

function matching(pattern: RegExp, why: string) {
  return z
    .exactOptional(z.string())
    .register(rules, (value) =>
      typeof value === 'string' && !pattern.test(value) ? `"${value}" ${why}` : undefined,
    );
}

/** Returns the first value of a spec that breaks the rule of its field. */
export function felixFieldProblem(spec: unknown): Problem | undefined {
  return problemIn(z.looseObject(felixFields), spec, 'spec');
}

function problemIn(schema: z.core.$ZodType, value: unknown, field: string): Problem | undefined {
  const why = rules.get(schema)?.(value);
  if (why !== undefined) return { field, why };
  const inner = unwrapped(schema);
  const parts =
    inner instanceof z.ZodArray && Array.isArray(value)
      ? value.map((element: unknown, index) => [inner.element, element, index] as const)
      : inner instanceof z.ZodObject && typeof value === 'object' && value !== null
        ? Object.entries(value).map(
            ([name, member]: [string, unknown]) => [shapeOf(inner)[name], member, name] as const,
          )
        : [];
  for (const [part, member, name] of parts) {
    const problem = part && problemIn(part, member, `${field}.${name}`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function shapeOf({ shape }: z.ZodObject): Readonly<Record<string, z.core.$ZodType | undefined>> {
  return shape;
}
