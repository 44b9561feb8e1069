import { createHash } from 'node:crypto';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { addressAt, cidrContains, parseCidr } from '../../ip/cidr.ts';
import { parseAddress } from '../../ip/address.ts';

/**
 * Link-local next hops: the address that a network's containers route to, and for which the host replies. Every
 * network of a host has its own, because a container on two networks can have each route only once.
 */

const ranges = { 4: parseCidr('169.254.0.0/16'), 6: parseCidr('fe80::/64') } as const;

/** Reserved by RFC 3927, and the address of clouds' metadata services. */
const excluded = [parseCidr('169.254.0.0/24'), parseCidr('169.254.255.0/24')];
const metadataService = parseAddress('169.254.169.254');

/** Returns the next hop for a pool with this nonce; the same whenever it is free. */
export function chooseNextHop(
  draft: Draft,
  request: { readonly node: string; readonly family: IpFamily; readonly nonce: string },
): IpAddress {
  const { family, nonce } = request;
  const used = usedNextHops(draft, request.node);
  const bits = family === 4 ? 16n : 62n;
  const start = createHash('sha256').update(nonce).digest().readBigUInt64BE(0);
  for (let step = 0n; step < 65_536n; step++) {
    const address = addressAt(ranges[family], (start + step) & ((1n << bits) - 1n));
    if (isAllowed(address) && !used.has(address)) return address;
  }
  throw new CalicoError('ipam/no-next-hop', {});
}

/** Reports whether an address is in a range of next hops, which containers cannot use. */
export function isLinkLocal(address: IpAddress): boolean {
  return cidrContains(ranges[4], address) || cidrContains(ranges[6], address);
}

function isAllowed(address: IpAddress): boolean {
  return address !== metadataService && !excluded.some((network) => cidrContains(network, address));
}

function usedNextHops(draft: Draft, node: string): ReadonlySet<string> {
  const used = new Set<string>();
  for (const [, pool] of draft.group('DockerPool', node)) {
    if (pool.nextHop !== undefined) used.add(pool.nextHop);
  }
  for (const [, network] of draft.group('DockerNetwork', node)) {
    for (const hop of [network.nextHop4, network.nextHop6]) if (hop !== undefined) used.add(hop);
  }
  return used;
}
