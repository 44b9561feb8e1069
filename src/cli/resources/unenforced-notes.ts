import {
  resourceTypeOf,
  type EntryValue,
  type Resource,
  type ResourceKind,
} from '../../model/kinds/index.ts';
import { resourceId } from '../../model/resource-type.ts';

/** Returns a sentence for each kind or field of the applied resources that has no effect. */
export function unenforcedNotes(resources: readonly Resource[]): ReadonlySet<string> {
  return new Set(resources.flatMap((resource) => notesOf(resource.kind, resource)));
}

function notesOf<K extends ResourceKind>(kind: K, resource: EntryValue<K>): readonly string[] {
  const { isUnenforced, fieldsWithoutEffect } = resourceTypeOf[kind];
  if (isUnenforced) {
    return [`${kind} is stored but has no effect on this host`];
  }
  return fieldsWithoutEffect(resource).map(
    (field) => `${kind} ${resourceId(resource)}: ${field} is stored but has no effect on this host`,
  );
}
