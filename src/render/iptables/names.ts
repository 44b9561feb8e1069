import { createHash } from 'node:crypto';
import type { IpFamily } from '../../ip/address.ts';
import { addressSetPrefix, workloadInterfacePrefix } from '../../ruleset/names.ts';
import { limitedId, longestChainName } from './limited-id.ts';

/**
 * The names of chains, and of the sets that stand for what iptables cannot say by itself: which stack a packet belongs
 * to, and how often it was dropped. Those that Calico has are Calico's.
 */

/** All interfaces of containers, in the notation of iptables. */
export const workloadInterfaces = `${workloadInterfacePrefix}+`;

export const chainNames = {
  forward: 'cali-FORWARD',
  forwardingGuard: 'cali-fwd-guard',
  input: 'cali-INPUT',
  output: 'cali-OUTPUT',
  prerouting: 'cali-PREROUTING',
  postrouting: 'cali-POSTROUTING',
  natOutgoing: 'cali-nat-outgoing',
  fromWorkloads: 'cali-from-wl-dispatch',
  toWorkloads: 'cali-to-wl-dispatch',
  relatedFromWorkloads: 'cali-from-wl-related',
  relatedToWorkloads: 'cali-to-wl-related',
  workloadToHost: 'cali-wl-to-host',
  hostPorts: 'cali-host-ports',
} as const;

/** Chain with a Profile's inbound rules (`cali-pri-`), or its outbound ones (`cali-pro-`). */
export function profileChain(direction: 'ingress' | 'egress', profile: string): string {
  return limitedId(direction === 'ingress' ? 'cali-pri-' : 'cali-pro-', profile, longestChainName);
}

/** Chain of the endpoints of one stack: packets to them (`cali-tw-`), or from them (`cali-fw-`). */
export function stackChain(direction: 'ingress' | 'egress', stack: string): string {
  return limitedId(direction === 'ingress' ? 'cali-tw-' : 'cali-fw-', stack, longestChainName);
}

/** Chain of one of the sixteen branches of a dispatch chain. */
export function bucketChain(direction: 'ingress' | 'egress', bucket: string): string {
  const root = direction === 'ingress' ? chainNames.toWorkloads : chainNames.fromWorkloads;
  return `${root}-${bucket}`;
}

/** The branch that a stack is found in: a hexadecimal digit. */
export function bucketOf(stack: string): string {
  return createHash('sha256').update(stack).digest('hex').slice(0, 1);
}

/** Set of every local endpoint's addresses with its interface: what is not in it is spoofed. */
export function workloadsSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}workloads`;
}

export function stackSet(family: IpFamily, stack: string): string {
  return `${addressSetPrefix(family)}g:${digest(stack)}`;
}

export function bucketSet(family: IpFamily, bucket: string): string {
  return `${addressSetPrefix(family)}b:${bucket}`;
}

/** Set that counts what one rule drops; its identity is the chain and what the rule says. */
export function ruleDropsSet(family: IpFamily, chain: string, ruleText: string): string {
  return `${addressSetPrefix(family)}d:${digest(`${chain}\n${ruleText}`)}`;
}

/** Set that counts what no rule matched. */
export function noMatchDropsSet(family: IpFamily, direction: 'ingress' | 'egress'): string {
  return `${addressSetPrefix(family)}d:${direction}`;
}

/** The addresses that get no more counters, as some set has as many of theirs as it may have. */
export function crowdedSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}d:crowded`;
}

/** The set whose two members hold every address: it counts what has no room in the others. */
export function restSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}d:rest`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 20);
}
