import type { IpFamily } from '../../ip/address.ts';
import type { IpsetSpec } from './ipset.ts';
import { dropReasons } from '../../ruleset/drop-reasons.ts';
import { dropsIfRefused, type Chain } from './rule.ts';
import { countAndDrop } from './count-and-drop.ts';
import { crowdedSet, dropChain, reasonSet, restSet } from './names.ts';

/** Addresses that a set holds when the sender chooses them. */
const maxSpoofedAddresses = 4096;

/** A set whose members rules make, to count what they drop. */
export function filledSet(name: string, family: IpFamily): IpsetSpec {
  return { name, family, type: 'net,interface', countsPackets: true, isFilledByRules: true };
}

/** All sets that count what is dropped without a rule that says so. */
export function countingSets(family: IpFamily): readonly IpsetSpec[] {
  return [
    ...Object.values(dropReasons).map((reason) => ({
      ...filledSet(reasonSet(family, reason), family),
      ...(reason.isChosen ? { maxElements: maxSpoofedAddresses } : {}),
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

/** The chains of the reasons that a table has. */
export function dropChains(table: 'raw' | 'filter', family: IpFamily): readonly Chain[] {
  return Object.values(dropReasons)
    .filter(({ at }) => at === (table === 'raw' ? 'arrival' : 'policy'))
    .map((reason) => ({
      name: dropChain(reason),
      ifRefused: dropsIfRefused(`counter of drops, ${reason.text}`),
      rules: countAndDrop(reason.direction, family, reasonSet(family, reason), []),
    }));
}
