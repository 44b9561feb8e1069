import { decodeQuery, encodeResponse, reverseAddress } from './dns.ts';
import type { NameIndex } from './name-index.ts';
import { resolveAddress, resolveName, rotated, type Asker } from './resolve.ts';

/**
 * Returns the response to a DNS query of a container; `undefined` if Docker's name server shall respond. `random`
 * returns a number of at least 0 and less than 1, and selects the first of several addresses.
 */
export function respond(
  index: NameIndex,
  asker: Asker,
  request: {
    readonly query: Buffer;
    readonly transport: 'udp' | 'tcp';
    readonly random: () => number;
  },
): Buffer | undefined {
  const query = decodeQuery(request.query);
  if (query === undefined) return undefined;
  const { name, type } = query.question;
  if (type === 'PTR') {
    const address = reverseAddress(name);
    const found = address && resolveAddress(index, asker, address);
    if (found === undefined) return undefined;
    return encodeResponse(query, { addresses: [], name: found }, request.transport);
  }
  const found = resolveName(index, asker, name);
  if (found === undefined) return undefined;
  const start = Math.floor(request.random() * found.length);
  return encodeResponse(query, { addresses: rotated(found, start) }, request.transport);
}
