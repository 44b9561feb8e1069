import { NODATA, NOTFOUND, promises, type RecordWithTtl } from 'node:dns';
import { hasErrorCode } from '../errors/error.ts';
import { tryParseAddress } from '../ip/address.ts';
import type { AddressRecord } from '../names/domain-addresses.ts';

/**
 * Resolves a name to its addresses of one type, by way of CNAME, with the least TTL on the way, in seconds; `undefined` if
 * the name does not exist or is not plain ASCII. Rejects if no server responds.
 */
export type ResolveTrusted = (
  name: string,
  type: 'A' | 'AAAA',
) => Promise<readonly AddressRecord[] | undefined>;

/** The name server of a container gives up after 4 s. */
const timeoutMs = 1500;

/**
 * A name that is resolved as it is. A container may send others: of them, the resolver drops what follows a NUL, reads a
 * backslash as an escape, and converts Unicode. It would resolve another name, which no network set has.
 */
const plainName = /^(?=.{1,253}$)[-a-z0-9_]{1,63}(\.[-a-z0-9_]{1,63})*$/i;

/**
 * Returns a resolver in the network namespace of the host: containers cannot choose its servers, nor see or forge its
 * responses. Without servers it asks those of /etc/resolv.conf, as they are at each query.
 */
export function trustedResolver(servers: readonly string[]): ResolveTrusted {
  return async (name, type) => {
    if (!plainName.test(name)) return undefined;
    const resolver = new promises.Resolver({ timeout: timeoutMs, tries: 2 });
    if (servers.length > 0) resolver.setServers(servers);
    const records = await recordsOf(resolver, name, type);
    return records?.flatMap(({ address: text, ttl }) => {
      const address = tryParseAddress(text);
      return address === undefined ? [] : [{ address, ttl }];
    });
  };
}

async function recordsOf(
  resolver: promises.Resolver,
  name: string,
  type: 'A' | 'AAAA',
): Promise<readonly RecordWithTtl[] | undefined> {
  try {
    return await (type === 'A'
      ? resolver.resolve4(name, { ttl: true })
      : resolver.resolve6(name, { ttl: true }));
  } catch (error) {
    // The name exists, without addresses of this type.
    if (hasErrorCode(error, NODATA)) return [];
    if (hasErrorCode(error, NOTFOUND)) return undefined;
    throw error;
  }
}
