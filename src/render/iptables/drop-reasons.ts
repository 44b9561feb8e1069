import type { IpFamily } from '../../ip/address.ts';
import type { AddressSetSpec } from '../../ruleset/address-set.ts';
import { limitedId, longestChainName } from './limited-id.ts';
import { dropsIfRefused, type Chain, type Match, type Rule } from './rule.ts';
import { countAndDrop } from './count-and-drop.ts';
import { addressSetPrefix } from '../../ruleset/names.ts';
import { crowdedSet, noMatchDropsSet, restSet } from './names.ts';

/**
 * Why a packet is dropped without a Profile's rule that says so. Each reason has a set that counts by address
 * and interface, and a chain that counts and drops, so that whoever drops needs one rule.
 */
export interface DropReason {
  /** Part of the names of the chain and of the set. */
  readonly name: string;
  readonly table: 'raw' | 'filter';
  readonly direction: 'ingress' | 'egress';
  /** What `calico-cnm status` says. */
  readonly text: string;
  /**
   * Whether the sender chooses the address that is counted: then the set is a small one, and what it has no
   * room for is counted together.
   */
  readonly isChosen: boolean;
}

const reasons = {
  source: {
    name: 'source',
    table: 'raw',
    direction: 'egress',
    text: 'outbound: source address of another, or unknown interface',
    isChosen: true,
  },
  loopback: {
    name: 'loopback',
    table: 'raw',
    direction: 'egress',
    text: 'outbound: to a loopback address of its host',
    isChosen: false,
  },
  unknownFrom: {
    name: 'unknown-from',
    table: 'filter',
    direction: 'egress',
    text: 'outbound: source address or interface of no endpoint',
    isChosen: true,
  },
  unknownTo: {
    name: 'unknown-to',
    table: 'filter',
    direction: 'ingress',
    text: 'inbound: address or interface of no endpoint',
    isChosen: true,
  },
  invalidFrom: {
    name: 'invalid-from',
    table: 'filter',
    direction: 'egress',
    text: 'outbound: of no connection, and not the start of one (INVALID)',
    isChosen: true,
  },
  invalidTo: {
    name: 'invalid-to',
    table: 'filter',
    direction: 'ingress',
    text: 'inbound: of no connection, and not the start of one (INVALID)',
    isChosen: true,
  },
  tunnel: {
    name: 'tunnel',
    table: 'filter',
    direction: 'egress',
    text: 'outbound: VXLAN or IPinIP, which only hosts may send',
    isChosen: false,
  },
  toHost: {
    name: 'to-host',
    table: 'filter',
    direction: 'egress',
    text: 'outbound: to its own host (CALICO_ENDPOINT_TO_HOST_ACTION is Drop)',
    isChosen: false,
  },
} as const satisfies Readonly<Record<string, DropReason>>;

export const dropReasons: typeof reasons = reasons;

/** Addresses that a set holds when the sender chooses them. */
export const chosenAddressesAtMost = 4096;

/** The set that counts the packets of a reason. */
export function reasonSet(family: IpFamily, { name }: DropReason): string {
  return `${addressSetPrefix(family)}d:${name}`;
}

/** A set whose members rules make, to count what they drop. */
export function filledSet(name: string, family: IpFamily): AddressSetSpec {
  return { name, family, type: 'net,interface', countsPackets: true, isFilledByRules: true };
}

/** All sets that count what is dropped without a rule that says so. */
export function countingSets(family: IpFamily): readonly AddressSetSpec[] {
  return [
    ...(['ingress', 'egress'] as const).map((direction) =>
      filledSet(noMatchDropsSet(family, direction), family),
    ),
    ...Object.values(reasons).map((reason) => ({
      ...filledSet(reasonSet(family, reason), family),
      ...(reason.isChosen ? { maxElements: chosenAddressesAtMost } : {}),
    })),
    { name: restSet(family), family, type: 'net', countsPackets: true },
    { name: crowdedSet(family), family, type: 'net', countsPackets: false },
  ];
}

/**
 * Counters that one address may have in a set, one for each interface: the kernel keeps 64 in one place, and lists
 * fewer than 60 of them to who asks with a small buffer, as the ipset command does.
 */
export const countersPerAddress = 32;

/** A set of networks cannot hold all addresses as one. */
export function restMembers(family: IpFamily): readonly string[] {
  return family === 4 ? ['0.0.0.0/1', '128.0.0.0/1'] : ['::/1', '8000::/1'];
}

/** Goes where packets of the reason are counted and dropped. */
export function dropFor(reason: DropReason, matches: readonly Match[], comment: string): Rule {
  return { matches, action: { kind: 'goto', chain: dropChainName(reason) }, comment };
}

/** The chains of the reasons that a table has. */
export function dropChains(table: DropReason['table'], family: IpFamily): readonly Chain[] {
  return Object.values(reasons)
    .filter((reason) => reason.table === table)
    .map((reason) => ({
      name: dropChainName(reason),
      ifRefused: dropsIfRefused(`counter of drops, ${reason.text}`),
      rules: countAndDrop(reason.direction, family, reasonSet(family, reason), []),
    }));
}

function dropChainName({ name }: DropReason): string {
  return limitedId('cali-drop-', name, longestChainName);
}
