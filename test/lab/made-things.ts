import { z } from 'zod';
import { allocatedAddresses } from '../../src/ipam/records/block.ts';
import {
  entryTypeOf,
  parseKey,
  type EntryKind,
  type ResourceKind,
} from '../../src/model/kinds/index.ts';
import { checkout } from './built.ts';
import type { Host } from './host.ts';

/** The life cycle of a kind of object that calico-cnm creates. */
export interface MadeThing {
  readonly madeBy: string;
  /** When it is removed normally. */
  readonly goes: string;
  /** What removes it after a crash of any component. */
  readonly reclaimedBy: string;
}

/** A kind of record that no user writes. */
type RecordKind = Exclude<EntryKind, ResourceKind | 'OtherResource'>;

/** Stored objects: every kind of record (checked by the compiler), and the resources that calico-cnm also writes. */
const stored: Readonly<Record<RecordKind, MadeThing> & Partial<Record<ResourceKind, MadeThing>>> = {
  WorkloadEndpoint: {
    madeBy: 'CreateEndpoint',
    goes: 'DeleteEndpoint',
    reclaimedBy: 'leak reclamation: Docker has no running container with it, in two checks',
  },
  DockerNetwork: {
    madeBy: 'CreateNetwork',
    goes: 'DeleteNetwork',
    reclaimedBy: 'leak reclamation: Docker does not list it, in two checks',
  },
  DockerPool: {
    madeBy: 'RequestPool',
    goes: 'ReleasePool',
    reclaimedBy: 'leak reclamation: no network has it, in two checks',
  },
  NetworkDefinition: {
    madeBy: 'calico-cnm network create',
    goes: 'calico-cnm network rm, when the last host has removed its network',
    reclaimedBy: 'nothing: people made it',
  },
  NetworkReport: {
    madeBy: 'the daemon, of each network definition',
    goes: 'when the network was removed',
    reclaimedBy: 'the next round of the daemon; of a deleted node, by network rm',
  },
  IPPool: {
    madeBy: 'the first start (default pools); RequestPool or CreateNetwork for a subnet',
    goes: 'ReleasePool or DeleteNetwork of the last that has the subnet; default pools stay',
    reclaimedBy: 'with the pool record or network that it was made for',
  },
  Profile: {
    madeBy: 'CreateNetwork, or the event with its name',
    goes: 'DeleteNetwork, or DeleteEndpoint of the last endpoint',
    reclaimedBy: 'leak reclamation: created by the driver, not edited, not used, in two checks',
  },
  Handle: {
    madeBy: 'RequestAddress; the daemon, of its tunnel addresses',
    goes: 'in one transaction with the address: by ReleaseAddress, or when no pool needs a tunnel',
    reclaimedBy: 'with its address',
  },
  Block4: {
    madeBy: 'the first RequestAddress; its addresses by each',
    goes: 'with its pool; its addresses by ReleaseAddress',
    reclaimedBy: 'addresses: leak reclamation, no endpoint or pool record has them, in two checks',
  },
  Block6: { madeBy: 'as Block4', goes: 'as Block4', reclaimedBy: 'as Block4' },
  Affinity4: { madeBy: 'with its block', goes: 'with its block', reclaimedBy: 'with its block' },
  Affinity6: { madeBy: 'with its block', goes: 'with its block', reclaimedBy: 'with its block' },
  Node: { madeBy: 'the first start', goes: 'node delete', reclaimedBy: 'node delete' },
  NodeReport: {
    madeBy: 'the start, in etcd',
    goes: 'the live one with the daemon, the last one by node delete',
    reclaimedBy: 'the live one by its lease',
  },
  ClusterInformation: { madeBy: 'the first start', goes: 'never', reclaimedBy: 'nothing' },
  FelixConfiguration: {
    madeBy: 'the first tunnel address of the cluster: its VNI',
    goes: 'never',
    reclaimedBy: 'nothing',
  },
  Tier: { madeBy: 'the first start', goes: 'never', reclaimedBy: 'nothing' },
  IpamConfig: { madeBy: 'people', goes: 'by people', reclaimedBy: 'nothing' },
};

/** Objects in the kernel and on the disk. */
const onHost = {
  tunnel: {
    madeBy:
      'the agent: VXLAN interfaces, with neighbours and forwarding entries; the address of tunl0, with its label',
    goes: 'with the last pool that needs them',
    reclaimedBy: 'the agent: those of our names and kind, or of our label, that are not desired',
  },
  interface: {
    madeBy: 'Join',
    goes: 'Leave or DeleteEndpoint',
    reclaimedBy: 'with its endpoint; leak reclamation if both ends are on the host',
  },
  route: {
    madeBy: 'the agent, of each endpoint, pool and block',
    goes: 'with the endpoint, pool, block or node',
    reclaimedBy: 'the agent: those of protocol 80, 81 and 82 that are not desired',
  },
  member: {
    madeBy: 'the agent, in address sets',
    goes: 'with the endpoint or pool',
    reclaimedBy: 'the agent: members that are not desired',
  },
  set: {
    madeBy: 'the agent, of policies',
    goes: 'a minute after its last endpoint',
    reclaimedBy: 'the agent: sets by our prefix that are not desired',
  },
  chain: {
    madeBy: 'the agent, of policies and published ports',
    goes: 'a minute after its last endpoint',
    reclaimedBy: 'the agent: chains by our prefix that are not desired',
  },
  redirect: {
    madeBy: 'the agent, in network namespaces of containers, for DNS queries',
    goes: 'with the last endpoint of the container',
    reclaimedBy: 'the kernel, with the socket of the daemon that it belongs to',
  },
  file: {
    madeBy: 'the daemon: sockets, lock, snapshot, IPv6 settings',
    goes: 'with the daemon, or is replaced',
    reclaimedBy: 'the next start; what was left unfinished is written over',
  },
} satisfies Readonly<Record<string, MadeThing>>;

/**
 * The list of all objects that calico-cnm creates, by kind. A new kind of record does not compile without an entry
 * here.
 */
export const madeThings = { ...stored, ...onHost };

export type ThingKind = EntryKind | keyof typeof onHost;

type Things = ReadonlyMap<ThingKind, ReadonlySet<string>>;

/** Returns the objects of each kind on a host with a SQLite datastore. */
export async function thingsOn(host: Host): Promise<Things> {
  return new Map([...(await thingsOutsideStore(host)), ...(await thingsInStore(host))]);
}

async function thingsOutsideStore(host: Host): Promise<Things> {
  const lines = async (command: string) => {
    const { stdout } = await host.exec(['sh', '-c', command]);
    return new Set(stdout.split('\n').filter((line) => line !== ''));
  };
  return new Map<ThingKind, Set<string>>([
    ['interface', await lines(`ip -o link | sed -nE 's/^[0-9]+: ((cali|temp)[^:@]*).*/\\1/p'`)],
    [
      'tunnel',
      await lines(
        `ip -o link | sed -nE 's/^[0-9]+: (vxlan(-v6)?\\.calico):.*/\\1/p'; ip -o address show label tunl0:calico`,
      ),
    ],
    [
      'route',
      await lines(
        'for f in -4 -6; do for p in 80 81; do ip $f route show table all proto $p; done; done',
      ),
    ],
    ['member', await lines(`ipset save | sed -nE 's/^add (cali[^ ]* [^ ]*).*/\\1/p'`)],
    ['set', await lines(`ipset list -n | grep '^cali'`)],
    [
      'chain',
      await lines(`for t in iptables ip6tables; do $t-save | grep -oE '^:cali[^ ]*'; done`),
    ],
    ['file', await lines('find /run/calico /var/lib/calico ! -name "calico.db-*"')],
  ]);
}

async function thingsInStore(host: Host): Promise<Things> {
  const things = new Map<ThingKind, Set<string>>();
  const print = [`${checkout}/node_modules/.bin/node`, `${checkout}/test/lab/print-store.ts`];
  const printed = await host.run([...print, '/var/lib/calico/calico.db']);
  for (const [key, value] of z
    .array(z.tuple([z.string(), z.string()]))
    .parse(JSON.parse(printed))) {
    const kind = parseKey(key)?.kind;
    if (kind === undefined) continue;
    const found = things.get(kind) ?? new Set();
    things.set(kind, found);
    if (kind !== 'Block4' && kind !== 'Block6') {
      found.add(key);
      continue;
    }
    // An empty block may stay with its host, for the next container.
    for (const [address] of allocatedAddresses(entryTypeOf[kind].decode(key, value)))
      found.add(address);
  }
  return things;
}

/**
 * Returns the new objects as `kind name`, except of ignored kinds; those in the datastore if there are no others, as
 * reading it takes longest.
 */
export async function leftSince(
  before: Things,
  host: Host,
  except: readonly ThingKind[] = [],
): Promise<readonly string[]> {
  const stay = new Set<ThingKind>(['Affinity4', 'Affinity6', ...except]);
  const added = (things: Things) =>
    [...things].flatMap(([kind, names]) =>
      stay.has(kind)
        ? []
        : [...names.difference(before.get(kind) ?? new Set())].map((name) => `${kind} ${name}`),
    );
  const outside = added(await thingsOutsideStore(host));
  return outside.length > 0 ? outside : added(await thingsInStore(host));
}
