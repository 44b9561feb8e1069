import { describe } from '../../errors/error.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { familyOf } from '../../ip/address.ts';
import { cidrContains, hostCidr, parseCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import type { ApplyFailure } from '../apply-failure.ts';
import { listAddresses } from '../netlink/address.ts';
import { listLinks } from '../netlink/link.ts';
import type { Libc } from '../netlink/libc.ts';
import { inNetworkNamespace } from '../netlink/network-namespace.ts';
import {
  addPolicyRule,
  deletePolicyRule,
  listPolicyRules,
  type PolicyRule,
} from '../netlink/policy-rule.ts';
import {
  deleteRoute,
  listRoutes,
  ourProtocol,
  replaceRoute,
  routeTables,
  type Route,
} from '../netlink/route.ts';
import { isRefusal, NetlinkSocket } from '../netlink/socket.ts';

/** One interface of a container, and the peers reached through it. */
export interface SandboxInterface {
  readonly address: IpAddress;
  /** The address that identifies the interface: Docker sets it, while `address` may appear and be removed. */
  readonly shownBy: IpAddress;
  readonly nextHop: IpAddress;
  /** Networks whose addresses are peers on this interface. */
  readonly peers: readonly Cidr[];
}

/** The interfaces of a container. */
export interface ContainerRoutes {
  readonly paths: readonly SandboxInterface[];
  /** Whether they belong to one network that has its own default route. */
  readonly isPlain: boolean;
}

/**
 * Priorities of our routing rules in a container: first replies, by source address; then all routes of the main table
 * except its default; then peers.
 */
const priorities = { reply: 20_000, main: 20_050, peer: 20_100 } as const;
/** The table of an interface is this number plus its index, so it is the same while the interface exists. */
const firstTable = 52_000;

/** The range that the kernel considers on link for every IPv6 interface, by a route of metric 256. */
const linkLocal6 = parseCidr('fe80::/64');
/** The lowest metric of our routes for that range; each interface of a container has its own. */
const firstLinkLocalMetric = 64;

/** Our routes and rules in a container, by table, class and protocol; all others stay unchanged. */
const isOwnRoute = ({ table, destination, protocol }: Route): boolean =>
  table >= firstTable && protocol === ourProtocol && splitCidr(destination).prefixLength === 0;

const ownPriorities: ReadonlySet<number> = new Set(Object.values(priorities));

function isOwnRule({ priority, table, protocol }: PolicyRule): boolean {
  if (!ownPriorities.has(priority)) return false;
  // Rules of earlier releases have no protocol.
  const isOfBefore = protocol === 0 && (table >= firstTable || priority === priorities.main);
  return protocol === ourProtocol || isOfBefore;
}

/**
 * Makes a multi-network container reply and reach its peers through the right interface, whichever network has its
 * default route. It uses rules that point to our own tables, because Docker checks addresses against the main one.
 *
 * Docker changes the container's routes at the same time, and looks up the route to a gateway, which may be an address
 * of a peer. So none of our rules precedes a route of the main table that is more specific than its default, and
 * Docker's lookups always have the same result as without us.
 *
 * A container with `isPlain` and no other external interface needs no routes or rules; existing ones are removed.
 * Idempotent; does nothing if the namespace does not exist. Returns what the kernel refused, item by item, such as for
 * an interface that is down; throws `kernel/refused` if nothing can be read there.
 */
export function applyContainerRoutes(
  libc: Libc,
  namespacePath: string,
  { paths, isPlain }: ContainerRoutes,
): readonly ApplyFailure[] {
  const socket = openIn(libc, namespacePath);
  if (socket === undefined) return [];
  try {
    const linkOf = new Map(
      listAddresses(socket).map(({ address, linkIndex }) => [address, linkIndex]),
    );
    const present = paths.flatMap((path) => {
      const linkIndex = linkOf.get(path.shownBy);
      return linkIndex === undefined ? [] : [{ ...path, linkIndex, table: firstTable + linkIndex }];
    });
    const own = new Set(present.map(({ linkIndex }) => linkIndex));
    const isAlone = () =>
      !listLinks(socket).some(({ index, leadsOut }) => leadsOut && !own.has(index));
    const desired = isPlain && isAlone() ? [] : present;
    const failures = new Failures();
    for (const family of [4, 6] as const) {
      const ofFamily = desired.filter(({ address }) => familyOf(address) === family);
      applyRoutes({ socket, family, failures }, ofFamily);
      applyRules({ socket, family, failures }, ofFamily);
    }
    applyLinkLocalRoutes({ socket, family: 6, failures }, present);
    return failures.all;
  } finally {
    socket.close();
  }
}

interface PlacedPath extends SandboxInterface {
  readonly linkIndex: number;
  readonly table: number;
}

interface Applying {
  readonly socket: NetlinkSocket;
  readonly family: IpFamily;
  readonly failures: Failures;
}

/** Collects the refused changes, while the others continue. */
class Failures {
  readonly all: ApplyFailure[] = [];

  /** Returns whether it succeeded. */
  attempt(what: string, change: () => void): boolean {
    try {
      change();
      return true;
    } catch (error) {
      this.all.push({ what, why: describe(error) });
      return false;
    }
  }
}

function applyRoutes({ socket, family, failures }: Applying, paths: readonly PlacedPath[]): void {
  const desired = paths.map(({ table, linkIndex, nextHop }): Route => ({
    destination: parseCidr(family === 4 ? '0.0.0.0/0' : '::/0'),
    table,
    type: 'unicast',
    scope: 'global',
    linkIndex,
    gateway: nextHop,
    isOnLink: true,
  }));
  for (const route of listRoutes(socket, { family, protocol: ourProtocol }).filter(isOwnRoute)) {
    if (desired.some(({ table }) => table === route.table)) continue;
    failures.attempt(`removal of the route of table ${route.table}`, () =>
      deleteRoute(socket, route),
    );
  }
  for (const route of desired) {
    failures.attempt(`route by ${route.gateway ?? ''}`, () => replaceRoute(socket, route));
  }
}

/**
 * Routes all link-local addresses to the next hop, the only neighbour on a veth. The kernel's own route makes every
 * one of them a neighbour to be resolved, and a process that sends to many fills the neighbour table, which all
 * network namespaces of a kernel share.
 */
function applyLinkLocalRoutes({ socket, failures }: Applying, paths: readonly PlacedPath[]): void {
  const nextHops = new Map(
    paths
      .filter(({ nextHop }) => familyOf(nextHop) === 6 && cidrContains(linkLocal6, nextHop))
      .map(({ linkIndex, nextHop }) => [linkIndex, nextHop]),
  );
  const wanted = [...nextHops]
    .toSorted(([a], [b]) => a - b)
    .map(([linkIndex, gateway], index): Route => ({
      destination: linkLocal6,
      table: routeTables.main,
      type: 'unicast',
      scope: 'global',
      linkIndex,
      gateway,
      metric: firstLinkLocalMetric + index,
    }));
  const present = listRoutes(socket, { family: 6, protocol: ourProtocol }).filter(
    ({ table, destination }) => table === routeTables.main && destination === linkLocal6,
  );
  const isSame = (a: Route, b: Route) =>
    a.linkIndex === b.linkIndex && a.gateway === b.gateway && a.metric === b.metric;
  for (const route of present) {
    if (wanted.some((one) => isSame(one, route))) continue;
    failures.attempt('removal of a link-local route', () => deleteRoute(socket, route));
  }
  for (const route of wanted) {
    if (present.some((one) => isSame(one, route))) continue;
    failures.attempt(`link-local route by ${route.gateway ?? ''}`, () =>
      replaceRoute(socket, route),
    );
  }
}

function applyRules({ socket, family, failures }: Applying, paths: readonly PlacedPath[]): void {
  const replies = paths.map(({ address, table }): PolicyRule => ({
    family,
    from: hostCidr(address),
    priority: priorities.reply,
    table,
  }));
  const main: PolicyRule = {
    family,
    priority: priorities.main,
    table: routeTables.main,
    isWithoutDefault: true,
  };
  const peers = new Map<Cidr, PolicyRule>();
  for (const { peers: networks, table } of paths) {
    for (const to of networks) {
      if (!peers.has(to)) peers.set(to, { family, to, priority: priorities.peer, table });
    }
  }
  const desired = paths.length === 0 ? [] : [...replies, main, ...peers.values()];
  const present = listPolicyRules(socket, family).filter(isOwnRule);
  const what = ({ priority }: PolicyRule) => `routing rule of priority ${priority}`;
  // In this order the rules of peers never exist without the rule of the main table before them.
  for (const rule of desired) {
    if (present.some((one) => isSameRule(one, rule))) continue;
    const isDone = failures.attempt(what(rule), () => addPolicyRule(socket, rule));
    if (!isDone && rule === main) break;
  }
  for (const rule of present.toSorted((a, b) => b.priority - a.priority)) {
    if (desired.some((one) => isSameRule(one, rule))) continue;
    const isDone = failures.attempt(`removal of the ${what(rule)}`, () =>
      deletePolicyRule(socket, rule),
    );
    if (!isDone && rule.priority === priorities.peer) break;
  }
}

function isSameRule(a: PolicyRule, b: PolicyRule): boolean {
  return (
    a.from === b.from &&
    a.to === b.to &&
    a.table === b.table &&
    a.priority === b.priority &&
    (a.isWithoutDefault ?? false) === (b.isWithoutDefault ?? false)
  );
}

/** Opens a socket in a namespace; `undefined` if its file does not exist or is not a namespace. */
function openIn(libc: Libc, namespacePath: string): NetlinkSocket | undefined {
  try {
    return inNetworkNamespace(libc, namespacePath, () => NetlinkSocket.open(libc, 0));
  } catch (error) {
    if (isRefusal(error, 'ENOENT', 'EINVAL')) return undefined;
    throw error;
  }
}
