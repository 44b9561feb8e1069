import { z } from 'zod';
import { listAll, type Datastore, type KeyValue } from '../../datastore/datastore.ts';
import { byKey, commitPatiently } from './patient-commit.ts';

/**
 * The keys that a move copies to a datastore of others, recorded in the transaction that writes them: a value with the
 * revision of its record has not been changed since.
 */
export const recordPrefix = '/calico-cnm/moves/';

const recordSchema = z.array(z.string());

/** Values per transaction; comparisons and a record are added. */
export const valuesAtOnce = 100;

/** Returns the values that a move of this node copied to a target of others and nobody has changed since. */
export async function ownCopies(
  target: Pick<Datastore, 'read' | 'pages'>,
  node: string,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, KeyValue>> {
  const records = await listAll(target, `${recordPrefix}${node}/`, signal);
  const written = new Map<string, bigint>();
  for (const { value, modRevision } of records.items) {
    for (const key of recordSchema.parse(JSON.parse(value))) written.set(key, modRevision);
  }
  const present = await target.read([...written.keys()], signal);
  return byKey(present.items.filter(({ key, modRevision }) => written.get(key) === modRevision));
}

export async function deleteRecords(
  target: Datastore,
  node: string,
  signal: AbortSignal,
): Promise<void> {
  const { items } = await listAll(target, `${recordPrefix}${node}/`, signal);
  for (let from = 0; from < items.length; from += valuesAtOnce) {
    const some = items.slice(from, from + valuesAtOnce);
    const writes = some.map(({ key }) => ({ key, value: undefined }));
    await commitPatiently(target, { compares: some, writes }, signal);
  }
}
