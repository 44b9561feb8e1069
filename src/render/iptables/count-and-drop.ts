import type { IpFamily } from '../../ip/address.ts';
import type { DenyAction } from '../../ruleset/drop-reasons.ts';
import type { Direction } from '../../ruleset/policy.ts';
import type { Action, Match, Rule } from './rule.ts';
import { crowdedSet, restSet } from './names.ts';

/** What happens to a packet, and where it is counted. */
export interface CountedDrop {
  readonly direction: Direction;
  readonly family: IpFamily;
  /** Its members are addresses of the endpoint with an interface. */
  readonly set: string;
  readonly action: DenyAction;
  /** Whether the endpoint is one of the host: packets to it arrive by its interface. */
  readonly isOfHost?: boolean | undefined;
}

/**
 * Counts the packet for its endpoint and drops or rejects it. The kernel counts matches of a set element; a missing element is
 * added, and starts with this packet (adding it again would reset it). Packets without an element, because the set or
 * the bucket of the address is full, are counted together.
 */
export function countAndDrop(
  matches: readonly Match[],
  { direction, family, set, action, isOfHost = false }: CountedDrop,
): readonly Rule[] {
  const drop = (all: readonly Match[]): Rule => ({ matches: all, action: { kind: action } });
  const isEgress = direction === 'egress';
  const address = isEgress ? 'sourceSet' : 'destinationSet';
  const element = { kind: elementKinds[isOfHost ? 'host' : 'container'][direction], set };
  const count: Action = {
    kind: isEgress ? 'countSource' : 'countDestination',
    interface: isEgress === isOfHost ? 'out' : 'in',
    set,
  };
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

const elementKinds = {
  container: { ingress: 'destinationAndOutInterfaceSet', egress: 'sourceAndInInterfaceSet' },
  host: { ingress: 'destinationAndInInterfaceSet', egress: 'sourceAndOutInterfaceSet' },
} as const;
