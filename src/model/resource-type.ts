import type { z } from 'zod';
import { entryType, plainSegment, type EntryOptions, type EntryType } from './entry-type.ts';
import type { Metadata } from './fields.ts';
import type { StoredEntries } from './stored-entries.ts';

/** Keys of resources: `<root><plural>/<name>`, with the namespace before the name where the kind has one. */
export const resourceRoot = '/calico/resources/v3/projectcalico.org/';

/** A kind of resource that people read and write: all that the commands know of it. */
export interface ResourceType<Value> extends EntryType<Value> {
  readonly isUserFacing: true;
  /** The kind's word in keys, which is also its plural for people. */
  readonly plural: string;
  /** Short words for it, as calicoctl has them. */
  readonly aliases: readonly string[];
  /** What it is, for the table of `docs/resources.md`. */
  readonly meaning: string;
  /** Whether its id is `<namespace>/<name>`. */
  readonly isNamespaced: boolean;
  /** Resources that every datastore has, although nobody has stored them. */
  readonly implicit: readonly Value[];
  /** What people may not do with the resource of an id, as it belongs to every datastore. */
  readonly protection: (id: string) => Protection | undefined;
  readonly columns: readonly Column<Value>[];
  /** The order in which people see resources; those that are equal in it go by name. */
  readonly compare: (a: Value, b: Value) => number;
  /** Of a kind that is stored and shown, but that nobody acts on yet: what that means. */
  readonly unenforced: Unenforced | undefined;
  /** The fields of a resource, by their paths, that are stored and have no effect, although its kind has. */
  readonly fieldsWithoutEffect: (resource: Value) => readonly string[];
  /** What is stored for a resource that people give: with defaults, and what Calico's client adds. */
  readonly withDefaults: (resource: Value) => Value;
  /** What people see of a stored resource; `withDefaults` takes it back. */
  readonly shown: (stored: Value) => Value;
  /** The ids under which the object of an id that people give may be stored, that of a new one first. */
  readonly storedIds: (id: string) => readonly [string, ...string[]];
  /** Why a resource that people give is refused although it is well-formed, perhaps because of what is stored. */
  readonly validate: (resource: Value, stored: StoredEntries) => Problem | undefined;
}

/** `fixed` is neither applied nor deleted, `permanent` is not deleted. */
export type Protection = 'fixed' | 'permanent';

export interface Unenforced {
  /** Whether it decides on traffic where Felix runs: who relies on it must be told that here it does not. */
  readonly isPolicy: boolean;
  /** Whether an object of the kind is one that every datastore has, and that says nothing by itself. */
  readonly isPreset?: (id: string) => boolean;
}

export interface Column<Value> {
  readonly header: string;
  /** What of other resources a cell shows is looked up in `stored`. */
  readonly cell: (resource: Value, stored: Pick<StoredEntries, 'get'>) => string;
  /** Whether only `get -o wide` shows it. */
  readonly isWide?: true;
}

/** What is wrong with a resource: the field by its path, `''` for all of it, and the rest of the sentence. */
export interface Problem {
  readonly field: string;
  readonly why: string;
}

type ResourceOptions<Value> = Pick<EntryOptions<Value>, 'groups' | 'isObserved'> &
  Pick<ResourceType<Value>, 'plural' | 'meaning' | 'columns'> &
  Partial<
    Pick<
      ResourceType<Value>,
      | 'aliases'
      | 'isNamespaced'
      | 'compare'
      | 'implicit'
      | 'protection'
      | 'unenforced'
      | 'fieldsWithoutEffect'
      | 'withDefaults'
      | 'shown'
      | 'storedIds'
      | 'validate'
    >
  > & {
    readonly kind: string;
    readonly schema: z.ZodType<Value>;
  };

/** Makes the type of a resource. Key layout: libcalico-go/lib/backend/model/resource.go. */
export function resourceType<Value extends { readonly metadata: Metadata }>(
  options: ResourceOptions<Value>,
): ResourceType<Value> {
  const { kind, plural, isNamespaced = false } = options;
  return {
    ...entryType({
      ...options,
      label: kind,
      prefix: `${resourceRoot}${plural}/`,
      ...(isNamespaced ? { segment: namespaced } : {}),
    }),
    isUserFacing: true,
    plural,
    aliases: options.aliases ?? [],
    meaning: options.meaning,
    isNamespaced,
    implicit: options.implicit ?? [],
    protection: options.protection ?? (() => undefined),
    columns: options.columns,
    compare: options.compare ?? (() => 0),
    unenforced: options.unenforced,
    fieldsWithoutEffect: options.fieldsWithoutEffect ?? (() => []),
    shown: options.shown ?? ((resource) => resource),
    storedIds: options.storedIds ?? ((id) => [id]),
    withDefaults: options.withDefaults ?? ((resource) => resource),
    validate: options.validate ?? (() => undefined),
  };
}

const namespaced = plainSegment((text) => /^[^/]+\/[^/]+$/.test(text));

/** The id of a resource by its metadata. */
export function resourceId({ metadata }: { readonly metadata: Metadata }): string {
  const { name, namespace } = metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/**
 * The ids under which the object of an id that people give is stored: none if it is not there, several if releases of
 * Calico with other rules for names have stored it twice.
 */
export function idsStored<Value extends { readonly metadata: Metadata }>(
  { storedIds, shown }: Pick<ResourceType<Value>, 'storedIds' | 'shown'>,
  id: string,
  get: (id: string) => Value | undefined,
): readonly string[] {
  const found = storedIds(id).filter((candidate) => {
    const stored = get(candidate);
    return stored !== undefined && resourceId(shown(stored)) === id;
  });
  return found.length > 0 || get(id) === undefined ? found : [id];
}

/** The columns that begin the tables of most kinds. */
export const nameColumn: Column<{ readonly metadata: Metadata }> = {
  header: 'name',
  cell: ({ metadata }) => metadata.name,
};

export const namespaceColumn: Column<{ readonly metadata: Metadata }> = {
  header: 'namespace',
  cell: ({ metadata }) => metadata.namespace ?? '',
};
