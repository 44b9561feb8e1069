import { createHash } from 'node:crypto';
import type { IpFamily } from '../../ip/address.ts';
import type { DropReason } from '../../ruleset/drop-reasons.ts';
import { anyInterface } from '../../ruleset/host-endpoint.ts';
import { addressSetPrefix } from '../../ruleset/names.ts';
import {
  policyKey,
  profileTier,
  resourceKey,
  type Direction,
  type PolicyId,
  type Stack,
  type StackTier,
} from '../../ruleset/policy.ts';
import type { Block } from '../../ruleset/statement.ts';
import { limitedId, longestChainName } from './limited-id.ts';

/**
 * The names of chains, and of the sets for lookups that iptables cannot do: the stack of a packet, and its drop
 * counter. Names that Calico has are Calico's.
 */

export const hostPortsChain = 'cali-host-ports';
/** Where a rule of a policy leads if it allows a packet, or passes it on. */
export const allowChain = 'cali-allow';
export const passChain = 'cali-pass';

const blockChains: Readonly<Record<Block, string>> = {
  workloadToHost: 'cali-wl-to-host',
  egress: 'cali-from-wl-dispatch',
  ingress: 'cali-to-wl-dispatch',
  relatedEgress: 'cali-from-wl-related',
  relatedIngress: 'cali-to-wl-related',
  natOutgoing: 'cali-nat-outgoing',
  forwardingGuard: 'cali-fwd-guard',
  vxlanToHost: 'cali-vxlan-to-host',
  forwardedVxlan: 'cali-vxlan-forward',
  fromHostEndpoint: 'cali-from-host-endpoint',
  toHostEndpoint: 'cali-to-host-endpoint',
  forwardedFromHostEndpoint: 'cali-from-hep-forward',
  forwardedToHostEndpoint: 'cali-to-hep-forward',
  preDnatFromHostEndpoint: 'cali-from-host-endpoint',
  untrackedFromHostEndpoint: 'cali-from-host-endpoint',
  untrackedToHostEndpoint: 'cali-to-host-endpoint',
  failsafeInbound: 'cali-failsafe-in',
  failsafeOutbound: 'cali-failsafe-out',
  preDnatFailsafeInbound: 'cali-failsafe-in',
  untrackedFailsafeInbound: 'cali-failsafe-in',
  untrackedFailsafeOutbound: 'cali-failsafe-out',
};

export function blockChain(block: Block): string {
  return blockChains[block];
}

/**
 * Chain with a Profile's inbound rules (`cali-pri-`), or its outbound ones (`cali-pro-`); with those of another policy
 * (`cali-pi-`, `cali-po-`). For host endpoints they begin with `cali-h`, in the table of their stage.
 */
export function policyChain(direction: Direction, policy: PolicyId): string {
  const sign = direction === 'ingress' ? 'i' : 'o';
  const start = policy.stage === undefined ? 'cali-p' : 'cali-hp';
  return policy.kind === 'Profile'
    ? limitedId(`${start}r${sign}-`, policy.name, longestChainName)
    : limitedId(`${start}${sign}-`, resourceKey(policy), longestChainName);
}

/** What a chain of a host endpoint's interface judges, in the names of Calico. */
const guardChains = {
  fromHostEndpoint: 'cali-fh-',
  toHostEndpoint: 'cali-th-',
  forwardedFromHostEndpoint: 'cali-fhfw-',
  forwardedToHostEndpoint: 'cali-thfw-',
  preDnatFromHostEndpoint: 'cali-fh-',
  untrackedFromHostEndpoint: 'cali-fh-',
  untrackedToHostEndpoint: 'cali-th-',
} as const;

/** The blocks that dispatch packets to the chains of interfaces. */
export type GuardBlock = keyof typeof guardChains;

/** Chain of an interface with a host endpoint; `any-interface-at-all` is Calico's name for all others. */
export function guardChain(block: GuardBlock, name: string): string {
  const suffix = name === anyInterface ? 'any-interface-at-all' : name;
  return limitedId(guardChains[block], suffix, longestChainName);
}

/** A policy in comments: `Profile web`, `NetworkPolicy shop/web`. */
export function policyText({ kind, namespace, name }: PolicyId): string {
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

/**
 * Chain of the endpoints of a stack: packets to them (`cali-tw-`), or from them (`cali-fw-`). Stacks that are equal in a
 * direction have one name: that of the Profiles, if there are no other policies.
 */
export function stackChain(direction: Direction, { tiers }: Pick<Stack, 'tiers'>): string {
  const judging = tiers.filter((tier) => tier[direction].length > 0);
  const isOfProfiles = judging.every(({ name }) => name === profileTier);
  const suffix = isOfProfiles
    ? judging.flatMap((tier) => tier[direction].map(({ name }) => name)).join(',')
    : JSON.stringify(judging.map((tier) => tierContent(tier, direction)));
  return limitedId(stackChainStarts[direction], suffix, longestChainName);
}

/** Chain of what follows the policies of a tier: the same for all stacks that go on equally. */
export function behindTierChain(
  direction: Direction,
  tier: StackTier,
  others: readonly StackTier[],
): string {
  const judging = others.filter((other) => other[direction].length > 0);
  const suffix = JSON.stringify([
    `behind ${tier.name}`,
    tier.defaultAction,
    ...judging.map((other) => tierContent(other, direction)),
  ]);
  return limitedId(stackChainStarts[direction], suffix, longestChainName);
}

const stackChainStarts = { ingress: 'cali-tw-', egress: 'cali-fw-' } as const;

function tierContent(tier: StackTier, direction: Direction): readonly unknown[] {
  return [tier.name, tier.defaultAction, tier[direction].map(policyKey)];
}

/** Chain of one of the sixteen buckets of a dispatch chain. */
export function bucketChain(direction: Direction, bucket: string): string {
  return `${blockChain(direction)}-${bucket}`;
}

/** Returns the bucket of a stack: a hexadecimal digit. */
export function bucketOf(stack: string): string {
  return createHash('sha256').update(stack).digest('hex').slice(0, 1);
}

/** Set of every local endpoint's addresses with its interface: other sources are spoofed. */
export function workloadsSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}workloads`;
}

export function stackSet(family: IpFamily, stack: string): string {
  return `${addressSetPrefix(family)}g:${digest(stack)}`;
}

export function bucketSet(family: IpFamily, bucket: string): string {
  return `${addressSetPrefix(family)}b:${bucket}`;
}

/** Set that counts what one rule drops; its identity is the chain and the rule's content. */
export function ruleDropsSet(family: IpFamily, chain: string, ruleText: string): string {
  return `${addressSetPrefix(family)}d:${digest(`${chain}\n${ruleText}`)}`;
}

/** Set that counts drops by reason. */
export function reasonSet(family: IpFamily, { name }: DropReason): string {
  return `${addressSetPrefix(family)}d:${name}`;
}

/** Chain that counts and drops for a reason. */
export function dropChain({ name }: DropReason): string {
  return limitedId('cali-drop-', name, longestChainName);
}

/** Set of the addresses that get no more counters, because some set has the maximum for them. */
export function crowdedSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}d:crowded`;
}

/** Set whose two members cover all addresses: it counts the packets without an element in the other sets. */
export function restSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}d:rest`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 20);
}
