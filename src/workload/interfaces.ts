import { createHash } from 'node:crypto';
import type { Link } from '../dataplane/netlink/link.ts';

/** Names and addresses of a workload's two ends of a veth: the same whenever they are asked for. */

/** The MAC address of every host end, as in Calico: containers need not learn a new one after a restart. */
export const hostMac = 'ee:ee:ee:ee:ee:ee';

/**
 * Whether a link is the host's end of a workload's veth, made by us: kind, name and MAC address tell it from what
 * others have made, which is never removed.
 */
export function isHostEnd({ name, mac, is }: Pick<Link, 'name' | 'mac' | 'is'>): boolean {
  return is?.kind === 'veth' && mac === hostMac && /^cali[0-9a-f]{11}$/.test(name);
}

/** The host's end of the veth: `cali` and the first 11 characters of the endpoint ID, as ever. */
export function hostInterfaceName(endpointId: string): string {
  return `cali${endpointId.slice(0, 11)}`;
}

/** The other end, until it is moved into its network namespace and renamed. */
export function temporaryInterfaceName(endpointId: string): string {
  return `temp${endpointId.slice(0, 11)}`;
}

/** The MAC address of the workload's end: locally administered, from the endpoint ID. */
export function macFor(endpointId: string): string {
  const digest = createHash('sha256').update(endpointId).digest();
  return [
    'ca',
    ...[...digest.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, '0')),
  ].join(':');
}
