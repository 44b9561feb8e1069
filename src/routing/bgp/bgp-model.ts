import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { IpFamily } from '../../ip/address.ts';
import { cidrCovers, cidrFamily, hostCidr, type Cidr } from '../../ip/cidr.ts';
import { bgpLimits, parseCommunity, rangeProblem, type Community } from '../../model/bgp.ts';
import {
  interfacePattern,
  logSeverities,
  valueProblems,
  type BgpConfiguration,
} from '../../model/kinds/bgp-configuration.ts';
import { poolBlockSize, type IpPool } from '../../model/kinds/ip-pool.ts';
import { isDraining, type Node } from '../../model/kinds/node.ts';
import { underlayOf } from '../peers.ts';
import { encapsulationOf } from '../tunnels.ts';
import { compileFilter, type RouteFilter } from './bgp-filters.ts';
import { sortedByName, type BgpInputs, type BgpProblem } from './bgp-inputs.ts';
import { isReflector, listenPortOf, sessionsOf, type BgpSession } from './bgp-sessions.ts';

/** What a node's BGP speaker does, whatever its make; problems name what has no effect. */
export interface BgpModel {
  readonly node: string;
  /** In the form of an IPv4 address. */
  readonly routerId: string;
  readonly logSeverity: LogSeverity;
  readonly isReflector: boolean;
  /** Whether all routes that it announces are to be the last choice of its peers. Source: RFC 8326. */
  readonly isDraining: boolean;
  readonly listenPort: number;
  /** Whether BGP routes between nodes are used; otherwise only those to other networks. */
  readonly programsClusterRoutes: boolean;
  /** Whether the speaker listens on the node's addresses only. */
  readonly listensOnNodeAddresses: boolean;
  /** Interfaces, as names or patterns, whose networks are not used to find next hops. */
  readonly ignoredInterfaces: readonly string[];
  readonly sessions: readonly BgpSession[];
  readonly filters: readonly RouteFilter[];
  readonly families: Readonly<Record<IpFamily, BgpFamily>>;
  readonly problems: readonly BgpProblem[];
}

/** The part of one address family. */
export interface BgpFamily {
  /** Networks that this node announces: its blocks, and the addresses that it borrows from others. */
  readonly announced: readonly Cidr[];
  /** Addresses that a node uses from the block of another: only these are reached apart from their block. */
  readonly borrowed: readonly Cidr[];
  /** Networks of the host, never overridden. */
  readonly connected: readonly Cidr[];
  /** IP pools: nothing outside is exported. */
  readonly pools: readonly Cidr[];
  /** The prefix length of the blocks of each pool. */
  readonly blockLengths: ReadonlyMap<Cidr, number>;
  /** IP pools that are not exported unless a BGPFilter accepts it. */
  readonly unexported: readonly Cidr[];
  /** IP pools whose routes the daemon programs itself: BGP routes to them are not used. */
  readonly programmedByDaemon: readonly Cidr[];
  readonly advertisements: readonly PrefixAdvertisement[];
  /** Metric of routes in the kernel that have no priority. */
  readonly metric: number;
}

export interface PrefixAdvertisement {
  readonly net: Cidr;
  readonly communities: readonly Community[];
}

export type LogSeverity = (typeof logSeverities)[number];

/** Felix's. */
const normalMetric = 1024;

/** Derives the model of a node. A part that contradicts itself is left out and reported; the rest stands. */
export function bgpModel(inputs: BgpInputs): BgpModel {
  const { node, nodes, configurations } = inputs;
  const own = nodes.get(node);
  const ofAll = configurations.get('default')?.spec;
  const ofNode = configurations.get(`node.${node}`)?.spec;
  const found = sessionsOf(inputs);
  const problems: BgpProblem[] = [...found.problems];
  for (const name of ['default', `node.${node}`]) {
    const values = valueProblems(configurations.get(name)?.spec ?? {});
    problems.push(...values.map((one) => ({ ...one, resource: `BGPConfiguration ${name}` })));
  }
  const { filters, broken } = compileFilters(inputs, problems);
  const ignored = ofNode?.ignoredInterfaces ?? ofAll?.ignoredInterfaces ?? [];
  const sessions = found.sessions.filter(
    (session) => !session.filters.some((name) => broken.has(name)),
  );
  const used = new Set(sessions.flatMap((session) => session.filters));
  const severity = ofNode?.logSeverityScreen ?? ofAll?.logSeverityScreen ?? 'Info';
  return {
    node,
    routerId: routerIdOf(node, own),
    logSeverity:
      logSeverities.find((one) => one.toLowerCase() === severity.toLowerCase()) ?? 'Info',
    isReflector: isReflector(own),
    isDraining: isDraining(own),
    listenPort: listenPortOf(node, inputs),
    programsClusterRoutes: programsPlainRoutes(ofAll?.programClusterRoutes),
    listensOnNodeAddresses: (ofNode?.bindMode ?? ofAll?.bindMode) === 'NodeIP',
    ignoredInterfaces: ignored.filter((name) => interfacePattern.test(name)),
    sessions,
    filters: filters.filter(({ name }) => used.has(name)),
    families: { 4: familyOf(inputs, 4, problems), 6: familyOf(inputs, 6, problems) },
    problems,
  };
}

/**
 * Returns the router ID of a node: its IPv4 address, or a hash of its name. A change resets all sessions.
 */
export function routerIdOf(name: string, node: Node | undefined): string {
  const address = underlayOf(node?.spec.bgp?.ipv4Address, 4)?.address;
  if (address !== undefined) return address;
  const bytes = createHash('sha256').update(name).digest();
  // 0.0.0.0 is none, and from 224 on a router ID is unusual.
  return [1 + ((bytes[0] ?? 0) % 223), bytes[1], bytes[2], bytes[3]].join('.');
}

/** Reports whether BGP routes between nodes are used for a pool: no encapsulation, unless a configuration says otherwise. */
export function isProgrammedByBgp(pool: IpPool, ofAll: BgpConfiguration | undefined): boolean {
  return (
    encapsulationOf(pool).mode === 'Never' && programsPlainRoutes(ofAll?.spec.programClusterRoutes)
  );
}

/** The other values differ in routes of IP-in-IP, which BIRD 2 cannot write: those are always the daemon's. */
function programsPlainRoutes(programClusterRoutes: string | undefined): boolean {
  return programClusterRoutes !== 'Disabled' && programClusterRoutes !== 'EnabledIPIPOnly';
}

/** Returns the sessions that a change of the model ends, for a new start with other options or for good. */
export function endedSessions(before: BgpModel, after: BgpModel): readonly BgpSession[] {
  const now = new Map(after.sessions.map((session) => [session.name, session]));
  const isReset = before.routerId !== after.routerId;
  const isRebound = before.listensOnNodeAddresses !== after.listensOnNodeAddresses;
  return before.sessions.filter(
    (session) =>
      isReset ||
      (isRebound && session.source !== undefined) ||
      !isDeepStrictEqual(sessionOptions(session), sessionOptions(now.get(session.name))),
  );
}

/** What BIRD ends a session for: filters and limits change while it goes on. */
function sessionOptions(session: BgpSession | undefined): object | undefined {
  if (session === undefined) return undefined;
  const { filters: _, maxPrefixes: __, resource: ___, peerNode: ____, ...options } = session;
  return options;
}

function compileFilters(
  { filters }: BgpInputs,
  problems: BgpProblem[],
): { readonly filters: readonly RouteFilter[]; readonly broken: ReadonlySet<string> } {
  const compiled: RouteFilter[] = [];
  const broken = new Set<string>();
  for (const [name, filter] of sortedByName(filters)) {
    try {
      compiled.push(...compileFilter(filter));
    } catch (error) {
      broken.add(name);
      const why = error instanceof Error ? error.message : String(error);
      problems.push({
        resource: `BGPFilter ${name}`,
        field: '',
        why: `${why}; its peers are not connected`,
      });
    }
  }
  return { filters: compiled, broken };
}

function familyOf(inputs: BgpInputs, family: IpFamily, problems: BgpProblem[]): BgpFamily {
  const ofAll = inputs.configurations.get('default');
  const pools = sortedByName(inputs.pools)
    .map(([, pool]) => pool)
    .filter(({ spec }) => cidrFamily(spec.cidr) === family);
  const nets = (some: readonly IpPool[]) => sorted(some.map(({ spec }) => spec.cidr));
  const metric =
    family === 4 ? ofAll?.spec.ipv4NormalRoutePriority : ofAll?.spec.ipv6NormalRoutePriority;
  return {
    ...announcedOf(inputs, family, nets(pools)),
    connected: sorted(inputs.connected.filter((net) => cidrFamily(net) === family)),
    pools: nets(pools),
    blockLengths: new Map(pools.map((pool) => [pool.spec.cidr, poolBlockSize(pool)])),
    unexported: nets(pools.filter(({ spec }) => spec.disableBGPExport === true)),
    programmedByDaemon: nets(pools.filter((pool) => !isProgrammedByBgp(pool, ofAll))),
    advertisements: advertisementsOf(inputs, family, problems),
    metric:
      metric === undefined || rangeProblem(metric, bgpLimits.priority) !== undefined
        ? normalMetric
        : metric,
  };
}

function announcedOf(
  { node, blocks }: BgpInputs,
  family: IpFamily,
  pools: readonly Cidr[],
): Pick<BgpFamily, 'announced' | 'borrowed'> {
  const announced = new Set<Cidr>();
  const byOthers = new Set<Cidr>();
  const isInPool = (net: Cidr) => pools.some((pool) => cidrCovers(pool, net));
  for (const { cidr, host, borrowed } of blocks) {
    if (cidrFamily(cidr) !== family || !isInPool(cidr)) continue;
    const isOwn = host === node;
    if (isOwn) announced.add(cidr);
    for (const one of borrowed) {
      const net = hostCidr(one.address);
      if (one.node !== node) byOthers.add(net);
      else if (!isOwn) announced.add(net);
    }
  }
  return { announced: sorted(announced), borrowed: sorted(byOthers) };
}

/** The communities of a node's own list replace those of all nodes. Source: confd/pkg/backends/calico/client.go. */
function advertisementsOf(
  { node, configurations }: BgpInputs,
  family: IpFamily,
  problems: BgpProblem[],
): readonly PrefixAdvertisement[] {
  const ofAll = configurations.get('default')?.spec;
  const ofNode = configurations.get(`node.${node}`)?.spec;
  const byName = new Map(
    [...(ofAll?.communities ?? []), ...(ofNode?.communities ?? [])].map(
      ({ name = '', value = '' }) => [name, value],
    ),
  );
  const [source, spec] =
    ofNode?.prefixAdvertisements === undefined
      ? (['default', ofAll] as const)
      : ([`node.${node}`, ofNode] as const);
  return (spec?.prefixAdvertisements ?? []).flatMap(({ cidr, communities = [] }) => {
    if (cidr === undefined || cidrFamily(cidr) !== family) return [];
    const parsed = communities.map((text) => parseCommunity(byName.get(text) ?? text));
    if (parsed.some((one) => one === undefined)) {
      problems.push({
        resource: `BGPConfiguration ${source}`,
        field: 'spec.prefixAdvertisements',
        why: `communities of ${cidr} are not defined`,
      });
    }
    return [{ net: cidr, communities: parsed.filter((one) => one !== undefined) }];
  });
}

function sorted<Text extends string>(texts: Iterable<Text>): readonly Text[] {
  return [...new Set(texts)].toSorted();
}
