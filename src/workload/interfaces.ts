import { createHash } from 'node:crypto';
import type { Link } from '../dataplane/netlink/link.ts';

/** Names and addresses of the two ends of a workload's veth, derived from the endpoint ID. */

/** The MAC address of every host interface, as in Calico: containers need not learn a new one after a restart. */
export const hostMac = 'ee:ee:ee:ee:ee:ee';

/**
 * Reports whether a link is the host interface of a workload, created by calico-cnm: kind, name and MAC address
 * distinguish it from interfaces of others, which are never removed.
 */
export function isHostEnd({ name, mac, is }: Pick<Link, 'name' | 'mac' | 'is'>): boolean {
  return is?.kind === 'veth' && mac === hostMac && /^cali[0-9a-f]{11}$/.test(name);
}

/** Returns the name of the host interface: `cali` and the first 11 characters of the endpoint ID. */
export function hostInterfaceName(endpointId: string): string {
  return `cali${endpointId.slice(0, 11)}`;
}

/** Returns the name of the other end until it is moved into its network namespace and renamed. */
export function temporaryInterfaceName(endpointId: string): string {
  return `temp${endpointId.slice(0, 11)}`;
}

/** Returns the MAC address of the workload's end: locally administered, derived from the endpoint ID. */
export function macFor(endpointId: string): string {
  const digest = createHash('sha256').update(endpointId).digest();
  return [
    'ca',
    ...[...digest.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, '0')),
  ].join(':');
}
