import type { Stored, View } from '../../cache/view.ts';
import { resourceTypeOf, type EntryValue, type ResourceKind } from '../../model/kinds/index.ts';
import { idsStored, resourceId } from '../../model/resource-type.ts';
import type { StoredEntries } from '../../model/stored-entries.ts';
import { formatTable } from '../table.ts';

/** Returns the stored resources of a kind in the form shown to users, ordered by name, with their revisions. */
export function readResources<K extends ResourceKind>(
  view: View,
  kind: K,
): readonly EntryValue<K>[] {
  const { implicit, compare } = resourceTypeOf[kind];
  const found = [...implicit];
  const isImplicit = (id: string) => implicit.some((one) => resourceId(one) === id);
  for (const [id, stored] of view.list(kind)) {
    if (!isImplicit(id)) found.push(asShown(kind, stored));
  }
  return found.toSorted((a, b) => compare(a, b) || (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** Returns the stored resource with this id in the same form. */
export function readResource<K extends ResourceKind>(
  view: View,
  kind: K,
  id: string,
): EntryValue<K> | undefined {
  const implicit = resourceTypeOf[kind].implicit.find((one) => resourceId(one) === id);
  if (implicit !== undefined) return implicit;
  const [at] = idsStored(resourceTypeOf[kind], id, (one) => view.get(kind, one)?.value);
  const stored = at === undefined ? undefined : view.get(kind, at);
  return stored === undefined ? undefined : asShown(kind, stored);
}

function asShown<K extends ResourceKind>(
  kind: K,
  { value, modRevision }: Stored<EntryValue<K>>,
): EntryValue<K> {
  const resource = resourceTypeOf[kind].shown(value);
  const resourceVersion = modRevision.toString();
  return { ...resource, metadata: { ...resource.metadata, resourceVersion } };
}

/** Formats resources of one kind as a table; `isWide` includes all columns. */
export function formatResources<K extends ResourceKind>(
  kind: K,
  resources: readonly EntryValue<K>[],
  { view, isWide }: { readonly view: View; readonly isWide: boolean },
): string {
  const stored: Pick<StoredEntries, 'get'> = { get: (of, id) => view.get(of, id)?.value };
  const columns = resourceTypeOf[kind].columns.filter((column) => isWide || column.isWide !== true);
  return formatTable(
    columns.map(({ header }) => header),
    resources.map((resource) => columns.map(({ cell }) => cell(resource, stored))),
  );
}
