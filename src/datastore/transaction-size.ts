import type { Transaction } from './datastore.ts';

/**
 * Limits of one transaction: etcd rejects more than 128 operations in any of its three lists
 * (`--max-txn-ops`), and more than 1.5 MiB encoded (`--max-request-bytes`). The SQLite store has the same limits,
 * so that both stores behave alike.
 */
export const maxOperations = 128;
export const maxBytes = 1_500_000;

/** Maximum overhead of etcd's encoding per operation, in bytes. */
const operationBytes = 40;

/** Returns which limit a transaction exceeds; `undefined` if none. */
export function sizeProblem({ compares, ranges = [], writes }: Transaction): string | undefined {
  const operations = Math.max(compares.length + ranges.length, writes.length);
  if (operations > maxOperations) return `${operations} keys of at most ${maxOperations}`;
  let bytes = ranges.length * 1000;
  // Compared keys are also read if the comparison fails.
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
