import type { IpAddress, IpFamily } from '../ip/address.ts';
import { familyOf } from '../ip/address.ts';
import { hostCidr, parseCidr, type Cidr } from '../ip/cidr.ts';
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
export interface ContainerPath {
  readonly address: IpAddress;
  readonly nextHop: IpAddress;
  /** Networks whose addresses are peers on this path. */
  readonly peers: readonly Cidr[];
}

/** What a container is reached by, and reaches. */
export interface ContainerRoutes {
  readonly paths: readonly ContainerPath[];
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

/**
 * Makes a container on several networks answer and reach its peers by the right interface, whichever network
 * has its default route: rules that lead to tables of our own, as Docker checks addresses against the main one.
 *
 * Docker changes the container's routes at the same time, and asks the kernel how a gateway is reached, which may be
 * an address among the peers. So no rule of ours comes before a route of the main table that is more specific than
 * its default: what Docker is answered is what it would be without us, at any time.
 *
 * A container that `paths` is `plain` for needs nothing of this while no other interface leads out of it, and gets
 * nothing; what is left from before goes. Repeating it changes nothing, and so does a namespace that is gone. Throws
 * `kernel/refused`, as for an interface that is down.
 */
export function applyContainerRoutes(
  libc: Libc,
  namespacePath: string,
  { paths, isPlain }: ContainerRoutes,
): void {
  const socket = openIn(libc, namespacePath);
  if (socket === undefined) return;
  try {
    const linkOf = new Map(
      listAddresses(socket).map(({ address, linkIndex }) => [address, linkIndex]),
    );
    const present = paths.flatMap((path) => {
      const linkIndex = linkOf.get(path.address);
      return linkIndex === undefined ? [] : [{ ...path, linkIndex, table: firstTable + linkIndex }];
    });
    const own = new Set(present.map(({ linkIndex }) => linkIndex));
    const isAlone = () =>
      !listLinks(socket).some(({ index, leadsOut }) => leadsOut && !own.has(index));
    const wanted = isPlain && isAlone() ? [] : present;
    for (const family of [4, 6] as const) {
      const ofFamily = wanted.filter(({ address }) => familyOf(address) === family);
      applyRoutes(socket, family, ofFamily);
      applyRules(socket, family, ofFamily);
    }
  } finally {
    socket.close();
  }
}

interface PlacedPath extends ContainerPath {
  readonly linkIndex: number;
  readonly table: number;
}

function applyRoutes(socket: NetlinkSocket, family: IpFamily, paths: readonly PlacedPath[]): void {
  const wanted = paths.map(({ table, linkIndex, nextHop }): Route => ({
    destination: parseCidr(family === 4 ? '0.0.0.0/0' : '::/0'),
    table,
    type: 'unicast',
    scope: 'global',
    linkIndex,
    gateway: nextHop,
    isOnLink: true,
  }));
  const isOurs = ({ table }: Route) => table >= firstTable;
  for (const route of listRoutes(socket, { family, protocol: ourProtocol }).filter(isOurs)) {
    if (!wanted.some(({ table }) => table === route.table)) deleteRoute(socket, route);
  }
  for (const route of wanted) replaceRoute(socket, route);
}

function applyRules(socket: NetlinkSocket, family: IpFamily, paths: readonly PlacedPath[]): void {
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
  const wanted = paths.length === 0 ? [] : [...replies, main, ...peers.values()];
  const ours = new Set<number>(Object.values(priorities));
  const present = listPolicyRules(socket, family).filter(({ priority }) => ours.has(priority));
  // In this order the peers' rules are never there without the one before them.
  for (const rule of wanted) {
    if (!present.some((one) => isSameRule(one, rule))) addPolicyRule(socket, rule);
  }
  for (const rule of present.toSorted((a, b) => b.priority - a.priority)) {
    if (!wanted.some((one) => isSameRule(one, rule))) deletePolicyRule(socket, rule);
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
