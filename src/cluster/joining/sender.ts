import { familyOf, tryParseAddress } from '../../ip/address.ts';
import { cidrOf } from '../../ip/cidr.ts';

/**
 * Returns whom limits count as one sender, by the remote address of a socket. An IPv6 host can use every address of its
 * /64, so a /64 is one sender.
 */
export function senderOf(text: string): string {
  // A socket for both families shows IPv4 addresses as mapped ones.
  const address = tryParseAddress(text.replace(/^::ffff:(?=[\d.]+$)/i, ''));
  return address === undefined ? text : cidrOf(address, familyOf(address) === 4 ? 32 : 64);
}
