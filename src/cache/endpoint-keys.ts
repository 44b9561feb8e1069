import type { EncodedKeyValue } from '../datastore/datastore.ts';
import { workloadEndpointType } from '../model/kinds/workload-endpoint.ts';

const { prefix, idAfterPrefix } = workloadEndpointType;
const prefixBytes = Buffer.from(prefix);

/**
 * Returns the ID in the key of an endpoint, of which there may be hundreds of thousands, without making a text of the key;
 * `undefined` for any other key.
 */
export function endpointIdIn({
  bytes,
  keyStart,
  keyEnd,
}: Pick<EncodedKeyValue, 'bytes' | 'keyStart' | 'keyEnd'>): string | undefined {
  const start = keyStart + prefixBytes.length;
  // Keys of different kinds begin alike.
  for (let at = prefixBytes.length - 1; at >= 0; at--) {
    if (bytes[keyStart + at] !== prefixBytes[at]) return undefined;
  }
  return idAfterPrefix(bytes.toString('utf8', start, keyEnd));
}
