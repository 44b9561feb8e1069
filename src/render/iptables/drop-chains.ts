import type { IpFamily } from '../../ip/address.ts';
import type { AddressSetSpec } from '../../ruleset/address-set.ts';
import { dropReasons, type DropReason } from '../../ruleset/drop-reasons.ts';
import { limitedId, longestChainName } from './limited-id.ts';
import { dropsIfRefused, type Chain, type Match, type Rule } from './rule.ts';
import { countAndDrop } from './count-and-drop.ts';
import { addressSetPrefix } from '../../ruleset/names.ts';
import { crowdedSet, noMatchDropsSet, restSet } from './names.ts';

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
    ...Object.values(dropReasons).map((reason) => ({
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
export function dropChains(table: 'raw' | 'filter', family: IpFamily): readonly Chain[] {
  return Object.values(dropReasons)
    .filter(({ at }) => (at === 'arrival') === (table === 'raw'))
    .map((reason) => ({
      name: dropChainName(reason),
      ifRefused: dropsIfRefused(`counter of drops, ${reason.text}`),
      rules: countAndDrop(reason.direction, family, reasonSet(family, reason), []),
    }));
}

function dropChainName({ name }: DropReason): string {
  return limitedId('cali-drop-', name, longestChainName);
}
