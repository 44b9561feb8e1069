import type { IpAddress } from '../../ip/address.ts';
import { cidrContains, cidrCovers, cidrSize, cidrsOverlap, type Cidr } from '../../ip/cidr.ts';

/**
 * Addresses that IPReservations exclude from automatic allocation. Counted as Calico does: a reserved
 * address is not free, whether in use or not; a reserved address in use counts as both. Source: Calico,
 * calicoctl ipam show.
 */

/** Returns the reserved parts of a network, without duplicates. */
export function reservedParts(network: Cidr, ranges: readonly Cidr[]): readonly Cidr[] {
  const parts = ranges
    .filter((range) => cidrsOverlap(range, network))
    .map((range) => (cidrCovers(range, network) ? network : range));
  const unique = [...new Set(parts)];
  return unique.filter(
    (part) => !unique.some((other) => other !== part && cidrCovers(other, part)),
  );
}

/** Counts the reserved addresses of a network, and those of them in use. */
export function countReserved(
  network: Cidr,
  ranges: readonly Cidr[],
  inUse: readonly IpAddress[],
): { readonly reserved: bigint; readonly both: bigint } {
  const parts = reservedParts(network, ranges);
  const isReserved = (address: IpAddress) => parts.some((part) => cidrContains(part, address));
  return {
    reserved: parts.reduce((sum, part) => sum + cidrSize(part), 0n),
    both: parts.length === 0 ? 0n : BigInt(inUse.filter(isReserved).length),
  };
}
