import { addressBits, familyOf, type IpAddress } from '../../ip/address.ts';
import { familyNumber } from './address.ts';
import { address, readAttributes } from './attributes.ts';
import { isRefusal, type NetlinkSocket } from './socket.ts';

/** Result of a route lookup. */
export interface RouteFound {
  readonly table: number;
  readonly linkIndex: number | undefined;
}

const getRoute = 26;
const attributes = { destination: 1, source: 2, outInterface: 4, table: 15 };
const headerBytes = 12;
/** Requests the table in the reply; IPv6 always includes it, and refuses the flag. */
const flagLookupTable = 0x1000;

/**
 * Looks up the route of a packet of this host, by all rules; `undefined` if there is no route. Equivalent: `ip route
 * get DESTINATION from SOURCE`. Source: linux/rtnetlink.h.
 */
export function lookUpRoute(
  socket: NetlinkSocket,
  { destination, source }: { readonly destination: IpAddress; readonly source: IpAddress },
): RouteFound | undefined {
  const header = Buffer.alloc(headerBytes);
  const bits = addressBits(familyOf(destination));
  header.writeUInt8(familyNumber(destination), 0);
  header.writeUInt8(bits, 1);
  header.writeUInt8(bits, 2);
  header.writeUInt32LE(bits === 32 ? flagLookupTable : 0, 8);
  const payload = Buffer.concat([
    header,
    address(attributes.destination, destination),
    address(attributes.source, source),
  ]);
  try {
    const [answer] = socket.query({
      type: getRoute,
      payload,
      what: `look up the route from ${source} to ${destination}`,
    });
    if (answer === undefined) return undefined;
    const found = readAttributes(answer.payload.subarray(headerBytes));
    return {
      table: found.get(attributes.table)?.readUInt32LE(0) ?? answer.payload[4] ?? 0,
      linkIndex: found.get(attributes.outInterface)?.readUInt32LE(0),
    };
  } catch (error) {
    if (isRefusal(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES')) return undefined;
    throw error;
  }
}
