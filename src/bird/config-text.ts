import { addressBits, type IpFamily } from '../ip/address.ts';
import { hostCidr, type Cidr } from '../ip/cidr.ts';
import type { BgpFamily, BgpModel, LogSeverity } from '../routing/bgp/bgp-model.ts';
import type { BgpSession } from '../routing/bgp/bgp-sessions.ts';
import {
  addCommunity,
  filterFunction,
  filterText,
  hasCommunity,
  isInternal,
} from './filter-text.ts';

/** The configuration of BIRD 2 for a node. Source: BIRD 2 user's guide; what it does is Calico's bird.cfg. */

/** What depends on the host, not on resources. */
export interface ConfigOptions {
  /** File of BIRD's log; it is limited in size. */
  readonly logFile: string;
  /** Protocol numbers of routes that the daemon and Felix write: BIRD does not learn them. */
  readonly foreignProtocols: readonly number[];
  readonly families: readonly IpFamily[];
  /** Whether routes are written to the kernel; before the end they are withdrawn. */
  readonly programsKernel: boolean;
}

const recoverySeconds = 60;
const logBytes = 1_048_576;
/** Local preference of a route with metric 0. Source: Calico's priorities. */
const highestPreference = 2_147_483_647;
/** A local preference above says a metric; routers that know nothing of it use 100. */
const leastPriorityPreference = 1_073_741_824;
/** Preference of routes with a better priority than the normal one; that of others is BIRD's, 100. */
const ipv6Metric = 1024;
const elevatedPreference = 200;

/** GRACEFUL_SHUTDOWN: the sender of the route will be stopped. Source: RFC 8326. */
const shutdownCommunity = [65_535, 0] as const;

const logClasses: Readonly<Record<LogSeverity, string>> = {
  Debug: 'all',
  Info: '{ info, remote, warning, error, auth, fatal, bug, trace }',
  Warning: '{ warning, error, auth, fatal, bug }',
  Error: '{ error, auth, fatal, bug }',
  Fatal: '{ fatal, bug }',
  None: '{ bug }',
};

/** Returns the text of the configuration file. It contains passwords: the file must be readable for root only. */
export function configText(model: BgpModel, options: ConfigOptions): string {
  const families = ([4, 6] as const).filter((family) => options.families.includes(family));
  const usesBfd = model.sessions.some(({ bfd }) => bfd !== undefined);
  return [
    '# Written by calico-cnm from the datastore; changes are overwritten.',
    `log "${options.logFile}" ${logBytes} "${options.logFile}.1" ${logClasses[model.logSeverity]};`,
    `router id ${model.routerId};`,
    `debug protocols ${model.logSeverity === 'Debug' ? 'all' : '{ states }'};`,
    'timeformat protocol iso long;',
    // Until all peers are back after a restart, or this long, the routes in the kernel stay as they are.
    `graceful restart wait ${recoverySeconds};`,
    '',
    'protocol device { scan time 2; }',
    directText(model, families),
    ...(usesBfd ? ['protocol bfd { }'] : []),
    '',
    ...families.flatMap((family) => familyText(model, family, options)),
    ...model.filters
      .filter(({ family }) => families.includes(family))
      .map((filter) => filterText(filter)),
    ...model.sessions
      .filter(({ family }) => families.includes(family))
      .map((session) => sessionText(session, model)),
  ].join('\n');
}

/** Returns a configuration without sessions, with which BIRD removes all of its routes from the kernel. */
export function emptyConfigText(logFile: string): string {
  const kernels = [4, 6].map((family) => `protocol kernel { ipv${family} { export none; }; }`);
  const log = `log "${logFile}" ${logBytes} "${logFile}.1" ${logClasses.Info};`;
  return [log, 'router id 192.0.2.1;', 'protocol device { }', ...kernels, ''].join('\n');
}

function directText({ ignoredInterfaces }: BgpModel, families: readonly IpFamily[]): string {
  const interfaces = ['-"cali*"', ...ignoredInterfaces.map((name) => `-"${name}"`), '"*"'];
  const channels = families.map((family) => `ipv${family}; `).join('');
  return `protocol direct { ${channels}interface ${interfaces.join(', ')}; }`;
}

function familyText(model: BgpModel, family: IpFamily, options: ConfigOptions): readonly string[] {
  const part = model.families[family];
  const isForeign = options.foreignProtocols.map((number) => `krt_source = ${number}`).join(' || ');
  const gateways = new Map(
    model.sessions
      .filter((session) => session.family === family)
      .flatMap(({ peer, reachableBy }) =>
        reachableBy === undefined ? [] : [[hostCidr(peer), reachableBy] as const],
      ),
  );
  return [
    `filter kernel_import_v${family}`,
    '{',
    `  if (${isForeign}) then reject;`,
    '  accept;',
    '}',
    '',
    `filter kernel_export_v${family}`,
    '{',
    ...(options.programsKernel ? kernelExport(part, family) : ['  reject;']),
    '}',
    '',
    `protocol kernel kernel_v${family} {`,
    `  learn; ${options.programsKernel ? 'persist; ' : ''}scan time 2; graceful restart; merge paths on; metric 0;`,
    `  ipv${family} { import filter kernel_import_v${family}; export filter kernel_export_v${family}; };`,
    '}',
    '',
    staticText(
      `blocks_v${family}`,
      family,
      part.announced.map((net) => `${net} blackhole`),
    ),
    staticText(
      `reachable_v${family}`,
      family,
      [...gateways].map(([net, gateway]) => `${net} via ${gateway}`),
    ),
    importText(part, family),
    exportText(model, part, family),
  ];
}

/**
 * Routes of peers are used unless the daemon has its own. What depends on this node's blocks is here: the filters of
 * sessions do not change with them, which would make all peers send all their routes again.
 */
function kernelExport(part: BgpFamily, family: IpFamily): readonly string[] {
  const unlessBorrowed =
    part.borrowed.length === 0
      ? 'then reject;'
      : `then { if ! (net ~ ${setOf(part.borrowed, '')}) then reject; }`;
  const bits = addressBits(family);
  const partsOfBlocks = [...part.blockLengths]
    .filter(([, length]) => length < bits)
    .map(([net, length]) => `${net}{${length + 1},${bits}}`);
  return [
    `  if (proto = "reachable_v${family}") then accept;`,
    '  if (source != RTS_BGP || dest != RTD_UNICAST) then reject;',
    ...when(part.programmedByDaemon, 'then reject;'),
    // A part of a block is no reason to leave it, but for an address that another node borrows: a router with such a
    // route would take the traffic of a container.
    ...(partsOfBlocks.length === 0
      ? []
      : [`  if (net ~ [ ${partsOfBlocks.join(', ')} ]) ${unlessBorrowed}`]),
    // Blocks of this node are reached here, whoever announces them.
    ...when(part.announced, unlessBorrowed),
    // Metrics of IPv6 begin at the kernel's 1024, which the daemon's routes and those to containers have.
    ...(family === 6 ? [`  krt_metric = krt_metric + ${ipv6Metric};`] : []),
    '  accept;',
  ];
}

function staticText(name: string, family: IpFamily, routes: readonly string[]): string {
  return [
    `protocol static ${name} {`,
    `  ipv${family};`,
    ...routes.map((route) => `  route ${route};`),
    '}',
    '',
  ].join('\n');
}

/** Called with every route of a peer: before its filters, and after them. */
function importText(part: BgpFamily, family: IpFamily): string {
  return [
    `function before_import_v${family}()`,
    '{',
    `  if (defined(bgp_local_pref) && bgp_local_pref > ${leastPriorityPreference}) then krt_metric = ${highestPreference} - bgp_local_pref;`,
    `  else krt_metric = ${part.metric};`,
    `  if (${hasCommunity(shutdownCommunity)}) then bgp_local_pref = 0;`,
    '}',
    '',
    `function after_import_v${family}()`,
    '{',
    ...(part.pools.length === 0
      ? when(part.connected, 'then reject;')
      : when(part.connected, `then { if ! (net ~ ${setOf(part.pools)}) then reject; }`)),
    `  if (krt_metric < ${part.metric}) then preference = ${elevatedPreference};`,
    '  accept;',
    '}',
    '',
  ].join('\n');
}

/** Called with every route for a peer: before its filters, and after them with whether one has accepted. */
function exportText(model: BgpModel, part: BgpFamily, family: IpFamily): string {
  return [
    `function before_export_v${family}()`,
    '{',
    `  if ! defined(krt_metric) then krt_metric = ${part.metric};`,
    '}',
    '',
    `function after_export_v${family}(bool is_accepted; bool ${isInternal}; int local_as)`,
    '{',
    // Only addresses of IP pools leave the node, and only as this node's blocks or as a peer's routes.
    ...(part.pools.length === 0
      ? ['  reject;']
      : [`  if ! (net ~ ${setOf(part.pools)}) then reject;`]),
    `  if (source != RTS_BGP && proto != "blocks_v${family}") then reject;`,
    ...when(part.unexported, 'then { if ! is_accepted then reject; }'),
    `  if (source = RTS_BGP && ! ${isInternal}) then {`,
    ...(model.isReflector ? [] : ['    if (! is_accepted && bgp_path.len > 0) then reject;']),
    '    bgp_path.prepend(local_as);',
    '  }',
    ...part.advertisements.flatMap(({ net, communities }) =>
      communities.map((community) => `  if (net ~ [ ${net}+ ]) then ${addCommunity(community)}`),
    ),
    `  if (source != RTS_BGP || krt_metric != ${part.metric}) then bgp_local_pref = ${highestPreference} - krt_metric;`,
    ...(model.isDraining ? [`  ${addCommunity(shutdownCommunity)}`, '  bgp_local_pref = 0;'] : []),
    '  accept;',
    '}',
    '',
  ].join('\n');
}

function sessionText(session: BgpSession, model: BgpModel): string {
  const { family, peer, port, peerAs, localAs, localPort, source } = session;
  const isIbgp = peerAs === localAs;
  const local = [
    ...(source === undefined ? [] : [source]),
    ...(localPort === 179 ? [] : [`port ${localPort}`]),
    `as ${localAs}`,
  ].join(' ');
  const option = (condition: unknown, text: string) =>
    condition === undefined || condition === false ? [] : [`  ${text};`];
  const about = session.peerNode === undefined ? session.resource : `node ${session.peerNode}`;
  return [
    `protocol bgp ${session.name} {`,
    `  description "${about.replaceAll(/["\\]/g, '')}";`,
    `  local ${local};`,
    `  neighbor ${peer} port ${port} as ${peerAs};`,
    `  ${hopsText(session)}`,
    '  connect delay time 2; connect retry time 5; error wait time 5, 30;',
    '  graceful restart on;',
    ...option(session.restartSeconds, `graceful restart time ${session.restartSeconds ?? 0}`),
    ...option(session.keepaliveSeconds, `keepalive time ${session.keepaliveSeconds ?? 0}`),
    ...option(session.isPassive, 'passive on'),
    ...option(model.listensOnNodeAddresses && source !== undefined, 'strict bind yes'),
    ...option(session.clusterId, `rr client; rr cluster id ${session.clusterId ?? ''}`),
    ...option(session.allowedLocalAs, `allow local as ${session.allowedLocalAs ?? 0}`),
    ...option(session.password, `password "${session.password ?? ''}"`),
    ...option(session.bfd, session.bfd === 'graceful' ? 'bfd graceful' : 'bfd on'),
    `  ipv${family} {`,
    '    gateway recursive; add paths on; import keep filtered;',
    ...option(session.nextHop, `  next hop ${session.nextHop ?? ''}`),
    `    import limit ${session.maxPrefixes} action block;`,
    `    import filter { before_import_v${family}(); ${filterCalls(session, 'import', isIbgp)}after_import_v${family}(); };`,
    `    export filter { ${exportCalls(session, isIbgp)} };`,
    '  };',
    '}',
    '',
  ].join('\n');
}

function hopsText({ ttlHops, isDirect }: BgpSession): string {
  const ttl = `ttl security ${ttlHops === undefined ? 'off' : 'on'};`;
  if (isDirect) return `direct; ${ttl}`;
  return `multihop${ttlHops === undefined ? '' : ` ${ttlHops}`}; ${ttl}`;
}

function accepted(session: BgpSession, direction: 'import' | 'export', isIbgp: boolean): string {
  const { filters, family } = session;
  return filters
    .map((name) => `${filterFunction({ name, direction, family })}(${isIbgp})`)
    .join(' || ');
}

/** The first filter with a rule that accepts ends the list. */
function filterCalls(session: BgpSession, direction: 'import', isIbgp: boolean): string {
  if (session.filters.length === 0) return '';
  return `if (${accepted(session, direction, isIbgp)}) then { } `;
}

function exportCalls(session: BgpSession, isIbgp: boolean): string {
  const { family, localAs } = session;
  const after = (isAccepted: boolean) =>
    `after_export_v${family}(${isAccepted}, ${isIbgp}, ${localAs});`;
  const filtered =
    session.filters.length === 0
      ? ''
      : `if (${accepted(session, 'export', isIbgp)}) then ${after(true)} `;
  return `before_export_v${family}(); ${filtered}${after(false)}`;
}

function when(nets: readonly Cidr[], then: string): readonly string[] {
  return nets.length === 0 ? [] : [`  if (net ~ ${setOf(nets)}) ${then}`];
}

/** A set of prefixes; by default with everything inside them. */
function setOf(nets: readonly Cidr[], suffix = '+'): string {
  return `[ ${nets.map((net) => `${net}${suffix}`).join(', ')} ]`;
}
