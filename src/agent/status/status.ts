import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { ChosenBackend } from '../../dataplane/iptables/backend.ts';
import { forwards } from '../../dataplane/host-settings.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { networkProfiles, profileOfNamespace } from '../../driver/networks/network-profile.ts';
import { addressAndPort, type IpFamily } from '../../ip/address.ts';
import { cidrFamily } from '../../ip/cidr.ts';
import type { UsedRange } from '../../ipam/pools/default-pools.ts';
import { poolUsage } from '../../ipam/maintenance/report.ts';
import { dockerNameOf } from '../../model/names.ts';
import {
  endpointAnnotations,
  endpointTitle,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { PeerReach } from '../../routing/block-routes.ts';
import type { DroppedBy } from '../../ruleset/drop-counters.ts';
import type { Check, StatusReport } from '../../telemetry/status-report.ts';
import type { Agent } from '../agent.ts';
import { datastoreCheck } from './datastore-check.ts';
import { failureChecks } from './failure-checks.ts';
import { rangeText } from './network-ranges.ts';
import { labelChecks } from './label-checks.ts';
import { unenforcedChecks } from './unenforced.ts';
import { untrackedPortChecks } from './untracked-ports.ts';
import { otherHostChecks } from './other-hosts.ts';
import { otherFirewalls } from './other-firewalls.ts';
import { policyChecks } from './policy-checks.ts';
import { profileChecks } from './profile-checks.ts';
import { rangeOverlaps } from './range-overlaps.ts';

export interface StatusSources {
  readonly version: string;
  readonly node: string;
  readonly startedAt: Date;
  readonly mirror: LiveMirror;
  readonly agent: Agent;
  readonly local: LocalEndpoints;
  readonly firewall: ChosenBackend;
  readonly families: readonly IpFamily[];
  readonly sockets: readonly string[];
  /** Problems of the host, as sentences. */
  readonly hostProblems: readonly string[];
  /** The connected networks of this host, and the ranges for Docker's own networks. */
  readonly connected: () => readonly UsedRange[];
  readonly dockerPools: () => readonly UsedRange[];
  readonly moreChecks: readonly Check[];
}

/** Returns the current report for `calico-cnm status`. */
export function statusReport(sources: StatusSources): StatusReport {
  const { version, node, startedAt, mirror, agent } = sources;
  const { lastError } = agent.health;
  // Counters are read first: a failure becomes one of the checks.
  const dropped = mirror.inSync ? drops(sources) : [];
  // For every node and IP pool: computed once for the checks and the list.
  const reaches = mirror.inSync ? agent.managers.blockRoutes.reaches() : [];
  const base = {
    version,
    node,
    startedAt: startedAt.toISOString(),
    checks: checks(sources, reaches),
  };
  const error =
    lastError === undefined
      ? {}
      : {
          lastError: {
            at: lastError.at.toISOString(),
            what: lastError.what,
            remedy:
              'The daemon retries automatically. If the problem persists, see the log: journalctl -u calico-cnm.',
          },
        };
  if (!mirror.inSync) {
    const empty = { networks: [], endpoints: [], pools: [], drops: [], reachedByBgp: [] };
    return { ...base, ...empty, ...error };
  }
  return {
    ...base,
    networks: networks(sources),
    endpoints: sources.local.all().flatMap((id) => {
      const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
      return endpoint === undefined ? [] : [describeEndpoint(sources, endpoint)];
    }),
    pools: poolUsage(mirror).map(({ name, cidr, total, free }) => ({
      name,
      cidr,
      free: free.toString(),
      total: total.toString(),
    })),
    drops: dropped,
    reachedByBgp: reaches.flatMap(({ peer, pool, reach }) =>
      reach.by === 'bgp' ? [{ node: peer, pool }] : [],
    ),
    ...error,
  };
}

function checks(sources: StatusSources, reaches: readonly PeerReach[]): Check[] {
  const { mirror, agent, firewall, families, sockets, hostProblems } = sources;
  const agentHealth = agent.health;
  return [
    { name: 'plugin sockets', ok: sockets.length > 0, detail: sockets.join(', ') },
    datastoreCheck(mirror),
    {
      name: 'dataplane',
      ok: agentHealth.inSyncSince !== undefined,
      detail:
        agentHealth.inSyncSince === undefined
          ? `out of sync: ${agentHealth.lastError?.what ?? 'nothing written yet'}`
          : `${agentHealth.failures.length === 0 ? 'in sync' : 'everything else in sync'} since ${agentHealth.inSyncSince.toISOString()}`,
      remedy: 'The daemon retries automatically; see the last error.',
    },
    ...failureChecks(agentHealth.failures, mirror),
    {
      name: 'firewall',
      ok: true,
      detail: `iptables-${firewall.backend}, ${firewall.why}; ${families.map((family) => `IPv${family}`).join(' and ')}`,
    },
    ...hostProblems.map((problem) => ({ name: 'host', ok: false, detail: problem })),
    ...agent.managers.all.flatMap((manager) => manager.checks?.() ?? []),
    ...otherFirewalls(),
    ...unenforcedChecks(mirror, agent.managers.policy.engine),
    ...storedChecks(sources, reaches),
    ...forwardingProblems(sources),
    ...sources.moreChecks,
    ...profileChecks(sources, agent.managers.policy.engine.problems()),
    ...policyChecks(sources, agent.managers.policy.engine),
    ...labelChecks(sources),
    ...untrackedPortChecks(sources, agent.managers.policy.engine),
    ...[...mirror.unreadableValues()].map(([key, { why }]) => ({
      name: `stored value ${key}`,
      ok: false,
      detail: why,
      remedy:
        'Fix or delete it. Until then a policy denies what it selects; other values are ignored.',
    })),
  ];
}

/** Returns the checks of stored resources; none until the datastore was read. */
function storedChecks(
  { node, mirror, connected, dockerPools }: StatusSources,
  reaches: readonly PeerReach[],
): Check[] {
  if (!mirror.inSync) return [];
  const pools = [...mirror.list('IPPool').values()].map(({ value }) => value);
  const ranges = rangeOverlaps(pools, { connected: connected(), dockerPools: dockerPools() });
  const hosts = otherHostChecks(node, mirror.list('Node').keys(), reaches);
  return [...ranges, ...hosts];
}

/** Reports address families of containers for which forwarding is disabled on the host. */
function forwardingProblems({ mirror, local, families }: StatusSources): Check[] {
  const used = new Set(
    local
      .all()
      .flatMap((id) => mirror.get('WorkloadEndpoint', id)?.value.spec.ipNetworks ?? [])
      .map(cidrFamily),
  );
  return families
    .filter((family) => used.has(family) && !forwards(family))
    .map((family) => ({
      name: `IPv${family} forwarding`,
      ok: false,
      detail: 'disabled on this host; containers cannot reach other networks',
      remedy:
        family === 4
          ? 'Docker enables it at start by default. To enable it permanently, put net.ipv4.ip_forward=1 into /etc/sysctl.d and run sysctl --system.'
          : 'Put net.ipv6.conf.all.forwarding=1 into /etc/sysctl.d and run sysctl --system.',
    }));
}

function networks({ mirror, node, local }: StatusSources): StatusReport['networks'] {
  const counts = new Map<string, number>();
  for (const id of local.all()) {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    const network = endpoint?.metadata.annotations?.[endpointAnnotations.network] ?? '';
    counts.set(network, (counts.get(network) ?? 0) + 1);
  }
  return [...mirror.list('DockerNetwork').values()]
    .map(({ value }) => value)
    .filter((network) => network.node === node)
    .map((network) => ({
      name: network.name ?? '(not known yet)',
      id: network.id.slice(0, 12),
      subnets: network.subnets.map(({ cidr }) => cidr),
      ranges: network.subnets.map(rangeText),
      nextHops: [network.nextHop4, network.nextHop6].filter((hop) => hop !== undefined),
      profiles: [...networkProfiles(network), ...profileOfNamespace(network)],
      endpoints: counts.get(network.id) ?? 0,
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function describeEndpoint(
  { agent, mirror, node }: StatusSources,
  endpoint: WorkloadEndpoint,
): StatusReport['endpoints'][number] {
  const { annotations = {} } = endpoint.metadata;
  const network = mirror.get(
    'DockerNetwork',
    `${node}/${annotations[endpointAnnotations.network] ?? ''}`,
  );
  const quarantine = annotations[endpointAnnotations.quarantine];
  const state =
    quarantine !== undefined
      ? `quarantine: ${quarantine}`
      : !agent.isRouted(endpoint)
        ? 'no route'
        : agent.isProgrammed(endpoint)
          ? 'ready'
          : 'policy not programmed';
  return {
    container: endpointTitle(endpoint),
    network: network?.value.name ?? '',
    namespace: endpoint.metadata.namespace ?? '',
    addresses: [...(endpoint.spec.ipNetworks ?? [])],
    profiles: (endpoint.spec.profiles ?? []).map(dockerNameOf),
    interface: endpoint.spec.interfaceName,
    state,
  };
}

const nobody = '-';

/** Returns the dropped packets by container or host endpoint, and rule, from the kernel's counters. */
function drops(sources: StatusSources): StatusReport['drops'] {
  const containers = new Map<string, string>();
  for (const id of sources.local.all()) {
    const endpoint = sources.mirror.get('WorkloadEndpoint', id)?.value;
    if (endpoint !== undefined) {
      containers.set(endpoint.spec.interfaceName, endpointTitle(endpoint));
    }
  }
  const sums = new Map<string, StatusReport['drops'][number]>();
  const { counters, hostEndpoints } = sources.agent.managers;
  for (const { by, interface: name = '', packets, bytes } of counters.counts()) {
    const container = isOfHost(by)
      ? hostEndpointTitle(hostEndpoints.endpointOf(name))
      : (containers.get(name) ?? (isOfEndpoint(by) ? undefined : nobody));
    if (container === undefined || packets === 0n) continue;
    const rule = isOfHost(by) ? onInterface(ruleText(by), name) : ruleText(by);
    const key = `${container}\n${rule}`;
    const sum = sums.get(key) ?? { container, rule, packets: 0, bytes: 0 };
    sums.set(key, {
      ...sum,
      packets: sum.packets + Number(packets),
      bytes: (sum.bytes ?? 0) + Number(bytes),
    });
  }
  return [...sums.values(), ...undelivered(sources)];
}

/** Returns the datagrams that a published port has not delivered: the kernel's NAT does not apply to broadcasts. */
function undelivered({ mirror, agent }: StatusSources): StatusReport['drops'] {
  return agent.managers.ports.undelivered().flatMap(({ id, port, packets }) => {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    const where = addressAndPort(port.address, port.port);
    const rule = `inbound: not delivered by published port ${where}/udp (broadcast)`;
    return endpoint === undefined ? [] : [{ container: endpointTitle(endpoint), rule, packets }];
  });
}

/** Reports whether only packets of endpoints are dropped so; those of removed endpoints are not shown. */
function isOfEndpoint(by: DroppedBy): boolean {
  return by.kind === 'rule' || (by.kind === 'reason' && by.reason.at === 'stack');
}

/** Reports whether packets of host endpoints are dropped so. */
function isOfHost(by: DroppedBy): boolean {
  if (by.kind === 'rule') return by.rule.policy.stage !== undefined;
  return by.kind === 'reason' && by.reason.at === 'host';
}

function hostEndpointTitle(name: string | undefined): string | undefined {
  return name === undefined ? undefined : `HostEndpoint ${name}`;
}

/** `inbound on eth0: no matching rule`. */
function onInterface(rule: string, name: string): string {
  return rule.replace(':', () => ` on ${name}:`);
}

function ruleText(by: DroppedBy): string {
  if (by.kind === 'reason') return by.reason.text;
  if (by.kind === 'rest') return by.text;
  const { policy, direction, index } = by.rule;
  const where = policy.namespace === undefined ? '' : `${policy.namespace}/`;
  const name = policy.kind === 'Profile' ? dockerNameOf(policy.name) : where + policy.name;
  return `${direction === 'ingress' ? 'inbound' : 'outbound'}: ${policy.kind} ${name}, rule ${index}`;
}
