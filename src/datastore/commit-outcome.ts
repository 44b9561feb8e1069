import { CalicoError } from '../errors/error.ts';
import { entryTypeOf, parseKey } from '../model/kinds/index.ts';
import type { KeyValue, Transaction, Write } from './datastore.ts';
import type { EtcdRole } from './etcd-credentials.ts';

/** Whether a transaction of etcd was applied, and why not. */

const maxNamed = 3;

/** Returns the error of a transaction that etcd denied: it names what the user may not write, if that is known. */
export function deniedWrite(
  writes: readonly Write[],
  endpoint: string,
  role: EtcdRole | undefined,
  cause: unknown,
): CalicoError {
  const { mayWrite = () => false, remedy = 'check the role of its user' } = role ?? {};
  const denied = writes.filter(({ key }) => !mayWrite(key));
  const all = (denied.length > 0 ? denied : writes).map(({ key }) => nameOf(key));
  const named = all.slice(0, maxNamed);
  const others = all.length - named.length;
  const what = [...named, ...(others > 0 ? [`${others} others`] : [])].join(', ');
  return new CalicoError('datastore/denied', { endpoint, what, remedy }, { cause });
}

function nameOf(key: string): string {
  const parsed = parseKey(key);
  return parsed === undefined ? key : `${entryTypeOf[parsed.kind].label} ${parsed.id}`;
}

/** Reports whether etcd rejected a transaction because of its size, without applying any of it. */
export function isTooLarge(why: string): boolean {
  return /too many operations|request is too large|grpc: received message larger than max/.test(
    why,
  );
}

/** Reports whether a transaction conflicts with itself, so that it is applied once even if it is sent twice. */
export function isAppliedOnce({ compares, writes }: Transaction): boolean {
  const compared = new Set(compares.map(({ key }) => key));
  return writes.every(({ key }) => compared.has(key));
}

/**
 * Returns the revision at which a transaction was applied, given the values of its keys; `undefined` if it was not.
 * Removals have no revision of their own; it is at the latest that of the values.
 */
export function appliedAt(
  { writes }: Transaction,
  current: ReadonlyMap<string, KeyValue>,
  revision: bigint,
): bigint | undefined {
  if (!writes.every(({ key, value }) => current.get(key)?.value === value)) return undefined;
  const [written] = writes.flatMap(({ key }) => current.get(key)?.modRevision ?? []);
  return written ?? revision;
}
