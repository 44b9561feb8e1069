import { describe } from '../errors/error.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { familyOf } from '../ip/address.ts';
import { hostCidr, parseCidr, splitCidr, type Cidr } from '../ip/cidr.ts';
import type { ApplyFailure } from './apply-failure.ts';
import { listAddresses } from './netlink/address.ts';
import { listLinks } from './netlink/link.ts';
import type { Libc } from './netlink/libc.ts';
import { inNetworkNamespace } from './netlink/network-namespace.ts';
import {
  addPolicyRule,
  deletePolicyRule,
  listPolicyRules,
  type PolicyRule,
} from './netlink/policy-rule.ts';
import {
  deleteRoute,
  listRoutes,
  ourProtocol,
  replaceRoute,
  routeTables,
  type Route,
} from './netlink/route.ts';
import { isRefusal, NetlinkSocket } from './netlink/socket.ts';

/** One interface of a container, and what is reached by it. */
export interface SandboxInterface {
  readonly address: IpAddress;
  /** The address of that interface by which it is found: Docker puts it there, `address` may come and go. */
  readonly shownBy: IpAddress;
  readonly nextHop: IpAddress;
  /** Networks whose addresses are peers on this path. */
  readonly peers: readonly Cidr[];
}

/** What a container is reached by, and reaches. */
export interface ContainerRoutes {
  readonly paths: readonly SandboxInterface[];
  /** Whether they are those of one network that has a default route of its own. */
  readonly isPlain: boolean;
}

/**
 * The priorities of our routing rules in a container: replies go by the address that was asked; then come all routes
 * of the main table but its default; then peers.
 */
const priorities = { reply: 20_000, main: 20_050, peer: 20_100 } as const;
/** The table of an interface is this and its index, so that it is the same one as long as the interface is there. */
const firstTable = 52_000;

/** Which routes and rules in a container are ours, by table, class and protocol; all others are left alone. */
const isOwnRoute = ({ table, destination, protocol }: Route): boolean =>
  table >= firstTable && protocol === ourProtocol && splitCidr(destination).prefixLength === 0;

const ownPriorities: ReadonlySet<number> = new Set(Object.values(priorities));

function isOwnRule({ priority, table, protocol }: PolicyRule): boolean {
  if (!ownPriorities.has(priority)) return false;
  // Those that releases before made say no protocol.
  const isOfBefore = protocol === 0 && (table >= firstTable || priority === priorities.main);
  return protocol === ourProtocol || isOfBefore;
}

/**
 * Makes a container on several networks answer and reach its peers by the right interface, whichever network
 * has its default route: rules that lead to tables of our own, as Docker checks addresses against the main one.
 *
 * Docker changes the container's routes at the same time, and asks the kernel how a gateway is reached, which may be
 * an address among the peers. So no rule of ours comes before a route of the main table that is more specific than
 * its default: what Docker is answered is what it would be without us, at any time.
 *
 * A container that `paths` is `plain` for needs nothing of this while no other interface leads out of it, and gets
 * nothing; what is left from before goes. Repeating it changes nothing, and so does a namespace that is gone. Answers
 * what the kernel refused, item by item, as for an interface that is down; throws `kernel/refused` if nothing can be
 * read there.
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

/** What was refused, while the rest is done. */
class Failures {
  readonly all: ApplyFailure[] = [];

  /** Answers whether it was done. */
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
  // In this order the peers' rules are never there without the one before them.
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

/** A socket in a namespace; `undefined` if its file is gone, or is not a namespace yet or any more. */
function openIn(libc: Libc, namespacePath: string): NetlinkSocket | undefined {
  try {
    return inNetworkNamespace(libc, namespacePath, () => NetlinkSocket.open(libc, 0));
  } catch (error) {
    if (isRefusal(error, 'ENOENT', 'EINVAL')) return undefined;
    throw error;
  }
}
