import type { IpFamily } from '../../ip/address.ts';
import type { Action, Match, Rule } from './rule.ts';
import { crowdedSet, restSet } from './names.ts';

/**
 * Counts the packet for its container and drops it. Matching an element is what the kernel counts; where there
 * is none yet it is made, and begins with this packet (adding it again would begin anew). What gets no element,
 * as the set or the place of its address is full, is counted as one number.
 */
export function countAndDrop(
  direction: 'ingress' | 'egress',
  family: IpFamily,
  set: string,
  matches: readonly Match[],
): readonly Rule[] {
  const isEgress = direction === 'egress';
  const element = isEgress
    ? ({ kind: 'sourceAndInInterfaceSet', set } as const)
    : ({ kind: 'destinationAndOutInterfaceSet', set } as const);
  const kind = isEgress ? 'sourceSet' : 'destinationSet';
  const count: Action = { kind: isEgress ? 'countSource' : 'countDestination', set };
  return [
    drop([...matches, element]),
    { matches: [...matches, { kind, set: crowdedSet(family), negated: true }], action: count },
    drop([...matches, { ...element, uncounted: true }]),
    drop([...matches, { kind, set: restSet(family) }]),
    drop(matches),
  ];
}

function drop(matches: readonly Match[]): Rule {
  return { matches, action: { kind: 'drop' } };
}
