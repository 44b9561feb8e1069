import type { IpFamily } from '../../ip/address.ts';
import { directions } from '../../ruleset/policy.ts';
import { dropFor } from './drop-chains.ts';
import { dropReasons } from '../../ruleset/drop-reasons.ts';
import { connectionMarkBits, dropsIfRefused, markBits, type Chain, type Rule } from './rule.ts';
import {
  bucketChain,
  bucketSet,
  chainNames,
  stackChain,
  stackSet,
  noMatchDropsSet,
  profileChain,
} from './names.ts';
import { countAndDrop } from './count-and-drop.ts';
import { relatedChain } from './related-chains.ts';

/** The two chains of a stack: packets to its endpoints, and from them. */
export function renderStack(
  name: string,
  policies: readonly string[],
  family: IpFamily,
): readonly Chain[] {
  return directions.map((direction) => ({
    name: stackChain(direction, name),
    ifRefused: dropsIfRefused(
      `policy of the containers with the Profiles ${name === '' ? 'none' : name} (everything is denied)`,
    ),
    rules: [
      {
        matches: [],
        action: { kind: 'clearMark', bits: markBits.accept },
      },
      ...(direction === 'egress' ? noTunnels : []),
      ...policies.flatMap((policy): readonly Rule[] => [
        { matches: [], action: { kind: 'jump', chain: profileChain(direction, policy) } },
        {
          matches: [{ kind: 'markSet', bits: markBits.accept }],
          action: { kind: 'return' },
          comment: 'Return if profile accepted',
        },
      ]),
      ...(direction === 'ingress' && policies.length > 0 ? publishedPorts : []),
      ...countAndDrop(direction, family, noMatchDropsSet(family, direction), []),
    ],
  }));
}

/**
 * Behind all rules: who came by a published port is let in, as the user asked for it. A client that speaks to the
 * container's own address has no such mark. An ICMP error has the mark of the connection that it quotes.
 */
const publishedPorts: readonly Rule[] = [
  {
    matches: [
      { kind: 'connectionState', states: ['NEW'] },
      { kind: 'connectionMarkSet', bits: connectionMarkBits.published },
    ],
    action: { kind: 'setMark', bits: markBits.accept },
    comment: 'Came by a published port',
  },
  {
    matches: [{ kind: 'markSet', bits: markBits.accept }],
    action: { kind: 'return' },
  },
];

/** A container could otherwise send packets that claim to come from another host's tunnel. */
const noTunnels: readonly Rule[] = [
  dropFor(
    dropReasons.tunnel,
    [
      { kind: 'protocol', protocol: 17 },
      { kind: 'destinationPorts', ports: [{ first: 4789, last: 4789 }] },
    ],
    'Drop VXLAN encapped packets originating in workloads',
  ),
  dropFor(
    dropReasons.tunnel,
    [{ kind: 'protocol', protocol: 4 }],
    'Drop IPinIP encapped packets originating in workloads',
  ),
];

/** The two chains of one branch, given the names of its stacks in order. */
export function renderBucket(
  bucket: string,
  stacks: readonly string[],
  family: IpFamily,
): readonly Chain[] {
  return directions.map((direction) => ({
    name: bucketChain(direction, bucket),
    ifRefused: dropsIfRefused(
      `policies of the containers of branch ${bucket} (everything is denied)`,
    ),
    rules: [
      ...stacks.map((stack): Rule => ({
        matches: [ownEndpoint(direction, stackSet(family, stack))],
        action: { kind: 'goto', chain: stackChain(direction, stack) },
      })),
      unknown(direction),
    ],
  }));
}

/** The two roots, given the branches that have stacks, in order. */
export function renderDispatch(buckets: readonly string[], family: IpFamily): readonly Chain[] {
  return directions.map((direction) => ({
    name: direction === 'ingress' ? chainNames.toWorkloads : chainNames.fromWorkloads,
    rules: [
      {
        matches: [{ kind: 'connectionState', states: ['ESTABLISHED'] }],
        action: { kind: 'accept' },
      },
      {
        matches: [{ kind: 'connectionState', states: ['RELATED'] }],
        action: { kind: 'jump', chain: relatedChain(direction) },
      },
      dropFor(
        direction === 'ingress' ? dropReasons.invalidTo : dropReasons.invalidFrom,
        [{ kind: 'connectionState', states: ['INVALID'] }],
        'Of no connection',
      ),
      ...buckets.map((bucket): Rule => ({
        matches: [ownEndpoint(direction, bucketSet(family, bucket))],
        action: { kind: 'goto', chain: bucketChain(direction, bucket) },
      })),
      unknown(direction),
    ],
  }));
}

/** The names of the chains of a stack and of a branch, to remove them. */
export function stackChainNames(stack: string): readonly string[] {
  return directions.map((direction) => stackChain(direction, stack));
}

export function bucketChainNames(bucket: string): readonly string[] {
  return directions.map((direction) => bucketChain(direction, bucket));
}

function unknown(direction: 'ingress' | 'egress'): Rule {
  const reason = direction === 'ingress' ? dropReasons.unknownTo : dropReasons.unknownFrom;
  return dropFor(reason, [], 'Unknown interface');
}

function ownEndpoint(direction: 'ingress' | 'egress', set: string): Rule['matches'][number] {
  return direction === 'egress'
    ? { kind: 'sourceAndInInterfaceSet', set }
    : { kind: 'destinationAndOutInterfaceSet', set };
}
