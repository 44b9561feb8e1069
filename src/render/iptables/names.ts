import { createHash } from 'node:crypto';
import type { IpFamily } from '../../ip/address.ts';
import type { DropReason } from '../../ruleset/drop-reasons.ts';
import { addressSetPrefix } from '../../ruleset/names.ts';
import type { Direction } from '../../ruleset/policy.ts';
import type { Block } from '../../ruleset/statement.ts';
import { limitedId, longestChainName } from './limited-id.ts';

/**
 * The names of chains, and of the sets for lookups that iptables cannot do: the stack of a packet, and its drop
 * counter. Names that Calico has are Calico's.
 */

export const hostPortsChain = 'cali-host-ports';

const blockChains: Readonly<Record<Block, string>> = {
  workloadToHost: 'cali-wl-to-host',
  egress: 'cali-from-wl-dispatch',
  ingress: 'cali-to-wl-dispatch',
  relatedEgress: 'cali-from-wl-related',
  relatedIngress: 'cali-to-wl-related',
  natOutgoing: 'cali-nat-outgoing',
  forwardingGuard: 'cali-fwd-guard',
  vxlanToHost: 'cali-vxlan-to-host',
};

export function blockChain(block: Block): string {
  return blockChains[block];
}

/** Chain with a Profile's inbound rules (`cali-pri-`), or its outbound ones (`cali-pro-`). */
export function profileChain(direction: Direction, profile: string): string {
  return limitedId(direction === 'ingress' ? 'cali-pri-' : 'cali-pro-', profile, longestChainName);
}

/** Chain of the endpoints of one stack: packets to them (`cali-tw-`), or from them (`cali-fw-`). */
export function stackChain(direction: Direction, stack: string): string {
  return limitedId(direction === 'ingress' ? 'cali-tw-' : 'cali-fw-', stack, longestChainName);
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
