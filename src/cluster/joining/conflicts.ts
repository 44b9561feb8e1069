import { printable } from '../../errors/printable.ts';
import { isSameHost } from '../../host/node-identity.ts';
import { nodeIps } from '../../host/node-liveness.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrsOverlap, parseCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { hostLocal } from '../../ipam/pools/pools.ts';
import { allocatedAddresses } from '../../ipam/records/block.ts';
import { describeAllocation } from '../../ipam/records/allocation.ts';
import { blockHost, type Block } from '../../model/kinds/block.ts';
import { poolBlockSize, type IpPool } from '../../model/kinds/ip-pool.ts';
import { lastReportId, liveReportId, type HostIdentity } from '../../model/kinds/node-report.ts';
import { endpointAddresses, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { valuesOf, type StoredItem } from './stored-items.ts';

/**
 * What keeps the data of a host out of a cluster: two hosts that ran on their own mostly gave the same addresses to
 * their containers. A pure function of the data of both sides; whoever joins gets the whole list before anything changes.
 */

/** A host that wants to join. */
export interface Island {
  readonly node: string;
  readonly host: HostIdentity;
  /** Its clock. */
  readonly time: Date;
  /** Everything below `/calico/`. */
  readonly items: readonly StoredItem[];
}

/** The cluster, and when it was read. */
export interface Mainland {
  readonly time: Date;
  /** All items of `kindsOfMainland`. */
  readonly items: readonly StoredItem[];
  /** Keys that an earlier, interrupted move of the same host has written. */
  readonly own: ReadonlySet<string>;
}

/** The kinds of a cluster that the comparison needs. */
export const kindsOfMainland = [
  'Node',
  'NodeReport',
  'IPPool',
  'Block4',
  'Block6',
  'DockerNetwork',
  'NetworkDefinition',
] as const;

/** `addresses`: gone once the containers have addresses of another range. */
export interface Conflict {
  readonly about: 'node' | 'pool' | 'addresses' | 'network' | 'clock';
  /** What it is, and what to do. */
  readonly text: string;
  /** The family of the addresses. */
  readonly family?: IpFamily;
}

/** Difference of two clocks that certificates, leases and logs tolerate. */
const maxClockDifferenceMs = 300_000;

/** Returns all conflicts; none: the host can join. */
export function findConflicts(island: Island, cluster: Mainland): readonly Conflict[] {
  const others = {
    ...cluster,
    items: cluster.items.filter(({ key }) => !cluster.own.has(key)),
  };
  return [
    ...clockConflicts(island, others),
    ...nodeConflicts(island, others),
    ...poolConflicts(island, others),
    ...addressConflicts(island, others),
    ...networkConflicts(island, others),
  ];
}

function clockConflicts({ time: own }: Island, { time }: Mainland): readonly Conflict[] {
  const difference = own.getTime() - time.getTime();
  if (Math.abs(difference) <= maxClockDifferenceMs) return [];
  const minutes = Math.round(Math.abs(difference) / 60_000);
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  const direction = difference > 0 ? 'ahead of' : 'behind';
  const text = `the clock of this host is ${hours} h ${rest} min ${direction} that of the cluster; set it, for example: timedatectl set-ntp true`;
  return [{ about: 'clock', text }];
}

/** Reports whether the cluster's node of this name is this host: it joins again, or its last join was interrupted. */
export function isReturning(
  { node, host }: Pick<Island, 'node' | 'host'>,
  { items }: Pick<Mainland, 'items'>,
): boolean {
  const reports = valuesOf(items, 'NodeReport');
  const report = reports.get(liveReportId(node)) ?? reports.get(lastReportId(node));
  return report?.host !== undefined && isSameHost(report.host, host);
}

function nodeConflicts(island: Island, cluster: Mainland): readonly Conflict[] {
  const { node, items } = island;
  const reports = valuesOf(cluster.items, 'NodeReport');
  const nodes = valuesOf(cluster.items, 'Node');
  const isLive = (name: string) => reports.has(liveReportId(name));
  const conflicts: Conflict[] = [];
  if ((nodes.has(node) || isLive(node)) && !isReturning(island, cluster)) {
    const text = isLive(node)
      ? `node name ${node} is taken by a host that runs; give this host another one: set NODENAME and restart the daemon`
      : `node name ${node} is taken by a host that does not run; if that host is gone, remove it on a member (calico-cnm cluster remove ${node}), otherwise set NODENAME here and restart the daemon`;
    conflicts.push({ about: 'node', text });
  }
  const own = valuesOf(items, 'Node').get(node);
  const addresses = own === undefined ? [] : nodeIps(own);
  for (const [other, value] of nodes) {
    const shared = nodeIps(value).find((address) => addresses.includes(address));
    if (other === node || shared === undefined) continue;
    const text = `node ${other} has address ${shared} of this host; change the address of one of the two, or remove the host if it is gone (calico-cnm cluster remove ${other})`;
    conflicts.push({ about: 'node', text });
  }
  return conflicts;
}

function poolConflicts({ items }: Island, cluster: Mainland): readonly Conflict[] {
  const theirs = [...valuesOf(cluster.items, 'IPPool').values()];
  return [...valuesOf(items, 'IPPool').values()].flatMap((pool) => {
    const other = theirs.find(
      (one) => cidrsOverlap(one.spec.cidr, pool.spec.cidr) && !isSamePool(one, pool),
    );
    if (other === undefined) return [];
    const network = other.metadata.annotations?.[hostLocal];
    const owner =
      network === undefined
        ? `IP pool ${titleOf(other)} of the cluster`
        : `a network of host ${network} (${other.spec.cidr})`;
    const remedy =
      pool.metadata.annotations?.[hostLocal] === undefined
        ? `delete it (calico-cnm delete ippool ${pool.metadata.name}) once no container uses it`
        : 'recreate the network with another --subnet';
    const text = `IP pool ${titleOf(pool)} of this host overlaps ${owner}; ${remedy}`;
    return [{ about: 'pool' as const, text: printable(text) }];
  });
}

/** Two pools that are one in the cluster. A pool of Docker's own IPAM belongs to one host. */
function isSamePool(a: IpPool, b: IpPool): boolean {
  const hostOf = ({ metadata }: IpPool) => metadata.annotations?.[hostLocal];
  return (
    a.spec.cidr === b.spec.cidr && poolBlockSize(a) === poolBlockSize(b) && hostOf(a) === hostOf(b)
  );
}

function titleOf(pool: IpPool): string {
  return `${pool.metadata.name} (${pool.spec.cidr}, blocks of /${poolBlockSize(pool)})`;
}

/** Addresses in a message; the others are counted. */
const maxNamed = 5;

function addressConflicts(island: Island, cluster: Mainland): readonly Conflict[] {
  const returns = isReturning(island, cluster);
  const theirs = blocksOf(cluster.items).filter(
    (block) => !returns || blockHost(block) !== island.node,
  );
  const users = usersOf(island.items);
  return blocksOf(island.items).flatMap((block) => {
    const used = [...allocatedAddresses(block)];
    if (used.length === 0) return [];
    const named = used.slice(0, maxNamed).map(([address, holder]) => {
      const user = describeAllocation(holder, users.get(address));
      return `${address} (${user.replace(` on host ${island.node}`, '')})`;
    });
    const more = used.length > maxNamed ? ` and ${used.length - maxNamed} more` : '';
    return theirs
      .filter((other) => cidrsOverlap(other.cidr, block.cidr))
      .map((other) => {
        const host = blockHost(other);
        const owner = host === undefined ? 'the cluster' : `host ${host}`;
        const both = new Map(allocatedAddresses(other));
        const twice = used.filter(([address]) => both.has(address)).length;
        const also = twice === 0 ? '' : `, which uses ${twice} of them`;
        const text = `${named.join(', ')}${more} in block ${block.cidr} of this host, but block ${other.cidr} belongs to ${owner}${also}; renumber the containers`;
        const family = cidrFamily(block.cidr);
        return { about: 'addresses' as const, text: printable(text), family };
      });
  });
}

function blocksOf(items: readonly StoredItem[]): readonly Block[] {
  return [...valuesOf(items, 'Block4').values(), ...valuesOf(items, 'Block6').values()];
}

function usersOf(items: readonly StoredItem[]): ReadonlyMap<IpAddress, WorkloadEndpoint> {
  const users = new Map<IpAddress, WorkloadEndpoint>();
  for (const endpoint of valuesOf(items, 'WorkloadEndpoint').values()) {
    for (const address of endpointAddresses(endpoint)) users.set(address, endpoint);
  }
  return users;
}

function networkConflicts(island: Island, cluster: Mainland): readonly Conflict[] {
  const defined = valuesOf(cluster.items, 'NetworkDefinition');
  const own = valuesOf(island.items, 'NetworkDefinition');
  const theirs = [...valuesOf(cluster.items, 'DockerNetwork').values()].filter(
    ({ node }) => node !== island.node,
  );
  const conflicts = new Map<string, string>();
  for (const [name, { uid }] of own) {
    const other = defined.get(name);
    if (other === undefined || other.uid === uid) continue;
    conflicts.set(
      name,
      `network ${name} is defined both on this host and in the cluster; remove it here (calico-cnm network rm ${name}) after its containers`,
    );
  }
  for (const network of valuesOf(island.items, 'DockerNetwork').values()) {
    const { name } = network;
    if (name === undefined || conflicts.has(name)) continue;
    const subnets = subnetsText(network.subnets);
    const definition = defined.get(name);
    const other = theirs.find((one) => one.name === name && subnetsText(one.subnets) !== subnets);
    const isOtherwise = definition !== undefined && subnetsText(definition.subnets) !== subnets;
    if (other === undefined && !isOtherwise) continue;
    const [where, has] =
      other === undefined
        ? ['the cluster', subnetsText(definition?.subnets ?? [])]
        : [`host ${other.node}`, subnetsText(other.subnets)];
    conflicts.set(
      name,
      `network ${name} has subnets ${subnets} on this host and ${has} on ${where}; recreate it here with another name, or with the same subnets`,
    );
  }
  return [...conflicts.values()].map((text) => ({ about: 'network', text: printable(text) }));
}

/** The subnets of a network; `from the IP pools` if it has none of its own. */
function subnetsText(subnets: readonly { readonly cidr: Cidr }[]): string {
  const own = subnets.map(({ cidr }) => cidr).filter((cidr) => splitCidr(cidr).prefixLength > 0);
  return own.length === 0 ? 'from the IP pools' : own.toSorted().join(', ');
}

/** Candidates for renumbered containers; the IPv6 ones are unique local networks (RFC 4193). */
const candidates: Readonly<Record<IpFamily, readonly Cidr[]>> = {
  4: Array.from({ length: 190 }, (_, index) => parseCidr(`10.${66 + index}.0.0/16`)),
  6: Array.from({ length: 255 }, (_, index) => parseCidr(`fdca:11c0:${index.toString(16)}::/48`)),
};

/**
 * Returns a range for each family in which addresses conflict, which no IP pool of either side overlaps, for containers
 * to be renumbered to.
 */
export function freeRanges(
  conflicts: readonly Conflict[],
  {
    island,
    cluster,
  }: { readonly island: Pick<Island, 'items'>; readonly cluster: Pick<Mainland, 'items'> },
): readonly Cidr[] {
  const used = [island, cluster].flatMap(({ items }) =>
    [...valuesOf(items, 'IPPool').values()].map(({ spec }) => spec.cidr),
  );
  const families = new Set(conflicts.flatMap(({ family }) => family ?? []));
  return [...families].flatMap(
    (family) =>
      candidates[family].find((one) => !used.some((cidr) => cidrsOverlap(cidr, one))) ?? [],
  );
}
