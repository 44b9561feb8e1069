import type { Transaction } from './datastore.ts';

/**
 * What one transaction may hold: etcd refuses more than 128 operations in any of its three lists
 * (`--max-txn-ops`), and more than 1.5 MiB as it encodes them (`--max-request-bytes`). The SQLite store could take
 * more, but what works with one store shall work with the other.
 */
export const maxOperations = 128;
export const maxBytes = 1_500_000;

/** What etcd's encoding adds to the key and value of an operation, at most. */
const operationBytes = 40;

/** In what a transaction is larger than a store takes; `undefined` if it is not. */
export function sizeProblem({ compares, ranges = [], writes }: Transaction): string | undefined {
  const operations = Math.max(compares.length + ranges.length, writes.length);
  if (operations > maxOperations) return `${operations} keys of at most ${maxOperations}`;
  let bytes = ranges.length * 1000;
  // What is compared is also read, should it have changed.
  for (const { key } of compares) bytes += 2 * (Buffer.byteLength(key) + operationBytes);
  for (const { key, value = '' } of writes) {
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value) + operationBytes;
  }
  if (bytes <= maxBytes) return undefined;
  return `${megabytes(bytes)} MB of at most ${megabytes(maxBytes)} MB`;
}

function megabytes(bytes: number): string {
  return (Math.ceil(bytes / 100_000) / 10).toString();
}
