import type { IpFamily } from '../../ip/address.ts';
import type { DenyAction } from '../../ruleset/drop-reasons.ts';
import type { Action, Match, Rule } from './rule.ts';
import { crowdedSet, restSet } from './names.ts';

/**
 * Counts the packet for its container and drops or rejects it. The kernel counts matches of a set element; a missing element is
 * added, and starts with this packet (adding it again would reset it). Packets without an element, because the set or
 * the bucket of the address is full, are counted together.
 */
export function countAndDrop(
  direction: 'ingress' | 'egress',
  family: IpFamily,
  set: string,
  matches: readonly Match[],
  kind: DenyAction,
): readonly Rule[] {
  const drop = (all: readonly Match[]): Rule => ({ matches: all, action: { kind } });
  const isEgress = direction === 'egress';
  const element = isEgress
    ? ({ kind: 'sourceAndInInterfaceSet', set } as const)
    : ({ kind: 'destinationAndOutInterfaceSet', set } as const);
  const address = isEgress ? 'sourceSet' : 'destinationSet';
  const count: Action = { kind: isEgress ? 'countSource' : 'countDestination', set };
  return [
    drop([...matches, element]),
    {
      matches: [...matches, { kind: address, set: crowdedSet(family), negated: true }],
      action: count,
    },
    drop([...matches, { ...element, uncounted: true }]),
    drop([...matches, { kind: address, set: restSet(family) }]),
    drop(matches),
  ];
}
