import type { Datastore } from '../../datastore/datastore.ts';
import { entryTypeOf, parseKey, type EntryKind } from '../../model/kinds/index.ts';
import { planMove } from '../moving/move-plan.ts';
import { ownCopies } from '../moving/move-records.ts';
import { byKey } from '../moving/patient-commit.ts';
import type { IslandRequest } from './protocol.ts';

/** Kinds that `findConflicts` compares by their meaning, and records that are of one node. */
const comparedOtherwise: ReadonlySet<EntryKind> = new Set([
  'Node',
  'NodeReport',
  'Block4',
  'Block6',
  'Affinity4',
  'Affinity6',
  'NetworkDefinition',
]);

/**
 * Returns the names of the values that the move of a host would not write, because the cluster has them with another
 * meaning: Profiles, policies and other resources of one name.
 */
export async function otherCollisions(
  datastore: Datastore,
  { node, items }: Pick<IslandRequest, 'node' | 'items'>,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const source = items
    .filter(({ key }) => {
      const kind = parseKey(key)?.kind;
      return kind === undefined || !comparedOtherwise.has(kind);
    })
    .map((item) => ({ ...item, modRevision: 0n }));
  const keys = source.map(({ key }) => key);
  // Default pools of one name and other ranges are renamed by the move.
  const renamed = keys.flatMap((key) => {
    const name = entryTypeOf.IPPool.idOf(key);
    return name === undefined ? [] : [entryTypeOf.IPPool.key(`${name}-${node}`.slice(0, 253))];
  });
  const { items: present } = await datastore.read([...new Set([...keys, ...renamed])], signal);
  const own = await ownCopies(datastore, node, signal);
  return planMove({ node, source, target: byKey(present), own }).collisions;
}
