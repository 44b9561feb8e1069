import type { IpAddress, IpFamily } from '../ip/address.ts';
import { familyOf } from '../ip/address.ts';
import { hostCidr, parseCidr, type Cidr } from '../ip/cidr.ts';
import { listAddresses } from './netlink/address.ts';
import type { Libc } from './netlink/libc.ts';
import { inNetworkNamespace } from './netlink/network-namespace.ts';
import {
  addPolicyRule,
  deletePolicyRule,
  listPolicyRules,
  type PolicyRule,
} from './netlink/policy-rule.ts';
import { deleteRoute, listRoutes, ourProtocol, replaceRoute, type Route } from './netlink/route.ts';
import { isRefusal, NetlinkSocket } from './netlink/socket.ts';

/** One interface of a container, and what is reached by it. */
export interface ContainerPath {
  readonly address: IpAddress;
  readonly nextHop: IpAddress;
  /** Networks whose addresses are peers on this path. */
  readonly peers: readonly Cidr[];
}

/** The priorities of our routing rules in a container: replies by the address that was asked, then peers. */
const replyPriority = 20_000;
const peerPriority = 20_100;
const firstTable = 52_000;

/**
 * Makes a container on several networks answer and reach its peers by the right interface, whichever network
 * has its default route: rules that lead to tables of our own, as Docker checks addresses against the main one.
 * Repeating it changes nothing. Throws `kernel/refused` if the namespace is gone.
 */
export function applyContainerRoutes(
  libc: Libc,
  namespacePath: string,
  paths: readonly ContainerPath[],
): void {
  const socket = inNetworkNamespace(libc, namespacePath, () => NetlinkSocket.open(libc, 0));
  try {
    const linkOf = new Map(
      listAddresses(socket).map(({ address, linkIndex }) => [address, linkIndex]),
    );
    const present = paths.flatMap((path, index) => {
      const linkIndex = linkOf.get(path.address);
      return linkIndex === undefined ? [] : [{ ...path, linkIndex, table: firstTable + index }];
    });
    for (const family of [4, 6] as const) {
      const ofFamily = present.filter(({ address }) => familyOf(address) === family);
      if (family === 6 && ofFamily.length === 0) continue;
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
  const isOurs = ({ table }: Route) => table >= firstTable && table < firstTable + 1000;
  for (const route of listRoutes(socket, { family, protocol: ourProtocol }).filter(isOurs)) {
    if (!wanted.some(({ table }) => table === route.table)) deleteRoute(socket, route);
  }
  for (const route of wanted) replaceRoute(socket, route);
}

function applyRules(socket: NetlinkSocket, family: IpFamily, paths: readonly PlacedPath[]): void {
  const replies = paths.map(({ address, table }): PolicyRule => ({
    from: hostCidr(address),
    priority: replyPriority,
    table,
  }));
  const peers = new Map<Cidr, PolicyRule>();
  for (const { peers: networks, table } of paths) {
    for (const to of networks) {
      if (!peers.has(to)) peers.set(to, { to, priority: peerPriority, table });
    }
  }
  const wanted = [...replies, ...peers.values()];
  const present = listPolicyRules(socket, family).filter(
    ({ priority }) => priority === replyPriority || priority === peerPriority,
  );
  for (const rule of present) {
    if (!wanted.some((one) => isSameRule(one, rule))) deletePolicyRule(socket, rule);
  }
  for (const rule of wanted) {
    if (!present.some((one) => isSameRule(one, rule))) addPolicyRule(socket, rule);
  }
}

function isSameRule(a: PolicyRule, b: PolicyRule): boolean {
  return a.from === b.from && a.to === b.to && a.table === b.table && a.priority === b.priority;
}

/** Whether a refusal means that the container is gone. */
export function isNamespaceGone(error: unknown): boolean {
  return isRefusal(error, 'ENOENT', 'EINVAL');
}
