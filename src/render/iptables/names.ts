import { createHash } from 'node:crypto';
import type { IpFamily } from '../../ip/address.ts';
import { limitedId, longestChainName } from './limited-id.ts';

/**
 * The names of chains and address sets. Those that Calico has are Calico's; sets of our own begin with the same
 * `cali40` or `cali60`, so that one prefix tells what is ours.
 */

const longestSetName = 31;

/** All interfaces of containers, in the kernel's notation. */
export const workloadInterfaces = 'cali+';

/** Whether an interface is one of those. */
export function isWorkloadInterface(name: string): boolean {
  return name.startsWith('cali');
}

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

/** Chain of the endpoints of equal policy: packets to them (`cali-tw-`), or from them (`cali-fw-`). */
export function groupChain(direction: 'ingress' | 'egress', group: string): string {
  return limitedId(direction === 'ingress' ? 'cali-tw-' : 'cali-fw-', group, longestChainName);
}

/** Chain of one of the sixteen branches of a dispatch chain. */
export function bucketChain(direction: 'ingress' | 'egress', bucket: string): string {
  const root = direction === 'ingress' ? chainNames.toWorkloads : chainNames.fromWorkloads;
  return `${root}-${bucket}`;
}

/** The branch that a group is found in: a hexadecimal digit. */
export function bucketOf(group: string): string {
  return createHash('sha256').update(group).digest('hex').slice(0, 1);
}

/** Set of the addresses that a selector matches, named as in Calico. */
export function selectorSet(family: IpFamily, selectorId: string): string {
  return `${addressSetPrefix(family)}${selectorId}`.slice(0, longestSetName);
}

/** Set of every local endpoint's addresses with its interface: what is not in it is spoofed. */
export function workloadsSet(family: IpFamily): string {
  return `${addressSetPrefix(family)}workloads`;
}

export function groupSet(family: IpFamily, group: string): string {
  return `${addressSetPrefix(family)}g:${digest(group)}`;
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

export const natSets = {
  masqueradedPools: (family: IpFamily) => `${addressSetPrefix(family)}masq-ipam-pools`,
  allPools: (family: IpFamily) => `${addressSetPrefix(family)}all-ipam-pools`,
  masqueradedEndpoints: (family: IpFamily) => `${addressSetPrefix(family)}masq-endpoints`,
  plainEndpoints: (family: IpFamily) => `${addressSetPrefix(family)}no-masq-endpoints`,
} as const;

/** What the names of all sets of a family begin with. */
export function addressSetPrefix(family: IpFamily): string {
  return `cali${family}0`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 20);
}
