import type { LiveMirror } from '../cache/live-mirror.ts';
import { resourceTypeOf, type EntryValue, type ResourceKind } from '../model/kinds/index.ts';
import { formatTable } from './table.ts';

/** The stored resources of a kind as people see them, in the order of their names, each with its revision. */
export function readResources<K extends ResourceKind>(
  mirror: LiveMirror,
  kind: K,
): readonly EntryValue<K>[] {
  const found: EntryValue<K>[] = [];
  const { shown } = resourceTypeOf[kind];
  for (const { value, modRevision } of mirror.list(kind).values()) {
    const resource = shown(value);
    const resourceVersion = modRevision.toString();
    found.push({ ...resource, metadata: { ...resource.metadata, resourceVersion } });
  }
  return found.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** Resources of one kind as a table. */
export function formatResources<K extends ResourceKind>(
  kind: K,
  resources: readonly EntryValue<K>[],
): string {
  const { columns } = resourceTypeOf[kind];
  return formatTable(
    columns.map(({ header }) => header),
    resources.map((resource) => columns.map(({ cell }) => cell(resource))),
  );
}
