import { addressAt, type Cidr } from '../ip/cidr.ts';
import type { IpAddress } from '../ip/address.ts';
import { isInheritedLabel } from './fields.ts';
import { blockHost, hasFree, type AllocationAttributes, type Block } from './kinds/block.ts';
import type { EntryKind, EntryValue } from './kinds/index.ts';
import {
  endpointAliases,
  endpointPrefixes,
  type WorkloadEndpoint,
} from './kinds/workload-endpoint.ts';

/**
 * What every host has to know of the objects of others, of which there may be hundreds of thousands: types of their own,
 * so that nobody takes a part for the whole.
 */

/** Where an endpoint's name counts; with tenants, whose it is would be a second field. Equal ones are one object. */
export interface Scope {
  readonly namespace: string | undefined;
}

/** A port that policy may call by its name. */
export interface NamedPort {
  readonly name: string;
  /** As it is written: a name, or a number. */
  readonly protocol: string | number;
  readonly port: number;
}

/** What policy and address management go by of an endpoint on another host. */
export interface BriefEndpoint {
  readonly scope: Scope;
  readonly node: string;
  /** Its addresses, without duplicates. */
  readonly nets: readonly Cidr[];
  /** The prefixes behind it, without duplicates; mostly none. */
  readonly prefixes: readonly Cidr[];
  readonly labels: Readonly<Record<string, string>>;
  readonly profiles: readonly string[];
  readonly ports: readonly NamedPort[];
  /** See `endpointAliases`; mostly none. */
  readonly aliases: readonly string[];
}

/** An address that another host has than its block's. */
export interface BorrowedAddress {
  readonly address: IpAddress;
  readonly node: string;
}

/**
 * What routes and address management go by of a block of another host: the network is reached by way of its host, the
 * borrowed addresses, each a network of its own, by way of theirs.
 */
export interface BriefBlock {
  readonly cidr: Cidr;
  /** The host that it belongs to; `undefined` if to none, or to a virtual owner. */
  readonly host: string | undefined;
  /** Since when it is that host's, as it is written. */
  readonly claimedAt: string | undefined;
  /** Which addresses are held: the first one's is the lowest bit. */
  readonly held: bigint;
  /** An address is free, reserved ones included. */
  readonly hasFree: boolean;
  /** Hosts share an address of it, or managers of Swarm claim one, so that every host has to look at it. */
  readonly isShared: boolean;
  /** Mostly none. */
  readonly borrowed: readonly BorrowedAddress[];
}

interface Briefs {
  readonly WorkloadEndpoint: BriefEndpoint;
  readonly Block4: BriefBlock;
  readonly Block6: BriefBlock;
}

/** The kinds of which there are briefs. */
export type BriefKind = keyof Briefs;

/** The brief of each kind; of most there is none. */
export type EntryBriefs = {
  readonly [K in EntryKind]: K extends BriefKind ? Briefs[K] : never;
};
export type BriefValue<K extends EntryKind> = EntryBriefs[K];

/** How briefs are made of values, and what is found by them. */
export interface BriefType<Value, Brief> {
  readonly of: (value: Value) => Brief;
  /** The groups of the value; see `EntryType`. */
  readonly groups: (id: string, brief: Brief) => readonly string[];
}

/** Briefs by block: a stored value never changes, and one plan may look at all blocks of a host. */
const briefsOfBlocks = new WeakMap<Block, BriefBlock>();

const blocks: BriefType<Block, BriefBlock> = {
  of: (block) => {
    const known = briefsOfBlocks.get(block);
    if (known !== undefined) return known;
    const brief = briefBlock(block);
    briefsOfBlocks.set(block, brief);
    return brief;
  },
  groups: (_, { host, hasFree: isOpen }) => (isOpen && host !== undefined ? [host] : []),
};

/** Of the kinds that have briefs, how they are made. */
export const briefTypeOf: {
  readonly [K in BriefKind]: BriefType<EntryValue<K>, BriefValue<K>>;
} = {
  WorkloadEndpoint: {
    of: briefEndpoint,
    groups: (_, { nets }) => nets.map((net) => net.slice(0, net.lastIndexOf('/'))),
  },
  Block4: blocks,
  Block6: blocks,
};

/** What an endpoint shares with those of other hosts. */
export function briefEndpoint(endpoint: WorkloadEndpoint): BriefEndpoint {
  const { metadata, spec } = endpoint;
  const { namespace, labels = {} } = metadata;
  const { node, ipNetworks, profiles = [], ports = [] } = spec;
  return {
    scope: { namespace },
    node,
    nets: [...new Set(ipNetworks)],
    prefixes: [...new Set(endpointPrefixes(endpoint))],
    labels: ownLabels(labels),
    profiles,
    ports: ports.map(({ name, protocol, port }) => ({ name, protocol, port })),
    aliases: endpointAliases(endpoint),
  };
}

/** Returns the labels that an endpoint may have of its own. */
function ownLabels(labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const all = Object.entries(labels);
  return all.some(([key]) => isInheritedLabel(key))
    ? Object.fromEntries(all.filter(([key]) => !isInheritedLabel(key)))
    : labels;
}

export function briefBlock(block: Block): BriefBlock {
  const host = blockHost(block);
  const { isShared, borrowed } = findSharing(block, host);
  return {
    cidr: block.cidr,
    host,
    claimedAt: block.affinity_claim_time,
    held: heldBits(block.allocations),
    hasFree: hasFree(block),
    isShared,
    borrowed,
  };
}

/** The held addresses of a block, as bits. */
export function heldBits(allocations: readonly (number | null)[]): bigint {
  let bits = '';
  for (const index of allocations) bits = (index === null ? '0' : '1') + bits;
  return BigInt(`0b${bits}`);
}

/** How many addresses of a block are held. */
export function countHeld({ held }: BriefBlock): number {
  return held === 0n ? 0 : held.toString(2).replaceAll('0', '').length;
}

/** The addresses of a block that are held. */
export function heldOf({ cidr, held }: BriefBlock): readonly IpAddress[] {
  const addresses: IpAddress[] = [];
  for (let [left, ordinal] = [held, 0n]; left > 0n; left >>= 1n, ordinal++) {
    if ((left & 1n) === 1n) addresses.push(addressAt(cidr, ordinal));
  }
  return addresses;
}

/** What a block's allocations tell of hosts other than its own. */
export function findSharing(
  {
    cidr,
    allocations,
    attributes,
  }: {
    readonly cidr: Cidr;
    readonly allocations: readonly (number | null)[];
    readonly attributes?: readonly AllocationAttributes[] | null;
  },
  host: string | undefined,
): Pick<BriefBlock, 'isShared' | 'borrowed'> {
  let isShared = false;
  /** By number of the attributes, who has their addresses, if another host. */
  const borrowers: (string | undefined)[] = [];
  for (const { secondary } of attributes ?? []) {
    const node = secondary?.['node'];
    isShared ||= secondary?.['holders'] !== undefined || secondary?.['swarm'] !== undefined;
    borrowers.push(node === host ? undefined : node);
  }
  if (borrowers.every((node) => node === undefined)) return { isShared, borrowed: nothingBorrowed };
  const borrowed = allocations.flatMap((index, ordinal) => {
    const node = index === null ? undefined : borrowers[index];
    return node === undefined ? [] : [{ address: addressAt(cidr, BigInt(ordinal)), node }];
  });
  return { isShared, borrowed };
}

const nothingBorrowed: readonly BorrowedAddress[] = [];

/** Whether a host has to look after addresses of a block: its own block, one that it has an address of, a shared one. */
export function concernsHost({ host, isShared, borrowed }: BriefBlock, node: string): boolean {
  return host === node || isShared || borrowed.some((one) => one.node === node);
}
