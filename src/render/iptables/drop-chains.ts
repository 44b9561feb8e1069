import type { IpFamily } from '../../ip/address.ts';
import type { IpsetSpec } from './ipset.ts';
import { dropReasons } from '../../ruleset/drop-reasons.ts';
import { dropsIfRefused, type Chain, type RenderOptions } from './rule.ts';
import { countAndDrop } from './count-and-drop.ts';
import { crowdedSet, dropChain, reasonSet, restSet } from './names.ts';

/** Addresses that a set holds when the sender chooses them. */
const maxSpoofedAddresses = 4096;

/**
 * Returns a set whose members rules add, to count the packets that they drop. `isChosen`: whether senders choose the
 * addresses.
 */
export function filledSet(name: string, family: IpFamily, isChosen = false): IpsetSpec {
  return {
    name,
    family,
    type: 'net,interface',
    countsPackets: true,
    isFilledByRules: true,
    ...(isChosen ? { maxElements: maxSpoofedAddresses } : {}),
  };
}

/** Returns all sets that count drops by reason. */
export function countingSets(family: IpFamily): readonly IpsetSpec[] {
  return [
    ...Object.values(dropReasons).map((reason) =>
      filledSet(reasonSet(family, reason), family, reason.isChosen),
    ),
    { name: restSet(family), family, type: 'net', countsPackets: true },
    { name: crowdedSet(family), family, type: 'net', countsPackets: false },
  ];
}

/**
 * Maximum of counters of one address in a set, one for each interface: the kernel keeps 64 in one bucket, and lists
 * fewer than 60 of them to a client with a small buffer, such as the ipset command.
 */
export const countersPerAddress = 32;

/** A set of networks cannot contain all addresses as one member. */
export function restMembers(family: IpFamily): readonly string[] {
  return family === 4 ? ['0.0.0.0/1', '128.0.0.0/1'] : ['::/1', '8000::/1'];
}

/** Returns the chains of the drop reasons of a table. */
export function dropChains(
  table: 'raw' | 'filter',
  { family, denyAction }: RenderOptions,
): readonly Chain[] {
  return Object.values(dropReasons)
    .filter(({ at }) => (at === 'arrival' ? table === 'raw' : at !== 'host' && table === 'filter'))
    .map((reason) => ({
      name: dropChain(reason),
      ifRefused: dropsIfRefused(`counter of drops, ${reason.text}`),
      rules: countAndDrop([], {
        direction: reason.direction,
        family,
        set: reasonSet(family, reason),
        action: reason.isDenial ? denyAction : 'drop',
      }),
    }));
}
