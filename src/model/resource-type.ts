import type { z } from 'zod';
import { entryType, plainSegment, type EntryOptions, type EntryType } from './entry-type.ts';
import type { Metadata } from './fields.ts';
import type { StoredEntries } from './stored-entries.ts';

/** Keys of resources: `<root><plural>/<name>`, with the namespace before the name for namespaced kinds. */
export const resourceRoot = '/calico/resources/v3/projectcalico.org/';

/** A kind of resource that users read and write, with everything that the commands need. */
export interface ResourceType<Value> extends EntryType<Value> {
  readonly isUserFacing: true;
  /** The kind's name in keys, which is also its plural for users. */
  readonly plural: string;
  /** Short names, as in calicoctl. */
  readonly aliases: readonly string[];
  /** Its meaning, for the table of `docs/resources.md`. */
  readonly meaning: string;
  /** Whether its ID is `<namespace>/<name>`. */
  readonly isNamespaced: boolean;
  /** Resources that every datastore has without storing them. */
  readonly implicit: readonly Value[];
  /** Restrictions on the resource of an ID that every datastore has. */
  readonly protection: (id: string) => Protection | undefined;
  readonly columns: readonly Column<Value>[];
  /** The display order of resources; equal ones are sorted by name. */
  readonly compare: (a: Value, b: Value) => number;
  /** Whether it is stored and shown but has no effect yet. */
  readonly isUnenforced: boolean;
  /** The paths of fields of a resource that are stored without effect, although its kind has one. */
  readonly fieldsWithoutEffect: (resource: Value) => readonly string[];
  /** Returns the stored form of a resource given by a user: with defaults, and the additions of Calico's client. */
  readonly withDefaults: (resource: Value) => Value;
  /** Returns the form of a stored resource for users; `withDefaults` accepts it. */
  readonly shown: (stored: Value) => Value;
  /** The IDs under which the object of a user's ID may be stored, that of a new one first. */
  readonly storedIds: (id: string) => readonly [string, ...string[]];
  /** Returns why a well-formed resource given by a user is rejected, which may depend on stored resources. */
  readonly validate: (resource: Value, stored: StoredEntries) => Problem | undefined;
}

/** `fixed` is neither applied nor deleted, `permanent` is not deleted. */
export type Protection = 'fixed' | 'permanent';

export interface Column<Value> {
  readonly header: string;
  /** A cell that depends on other resources looks them up in `stored`. */
  readonly cell: (resource: Value, stored: Pick<StoredEntries, 'get'>) => string;
  /** Whether only `get -o wide` shows it. */
  readonly isWide?: true;
}

/** A problem of a resource: the path of the field, `''` for the whole resource, and the rest of the sentence. */
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
      | 'isUnenforced'
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

/** Creates the type of a resource. Key layout: libcalico-go/lib/backend/model/resource.go. */
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
    isUnenforced: options.isUnenforced ?? false,
    fieldsWithoutEffect: options.fieldsWithoutEffect ?? (() => []),
    shown: options.shown ?? ((resource) => resource),
    storedIds: options.storedIds ?? ((id) => [id]),
    withDefaults: options.withDefaults ?? ((resource) => resource),
    validate: options.validate ?? (() => undefined),
  };
}

const namespaced = plainSegment((text) => /^[^/]+\/[^/]+$/.test(text));

/** Returns the ID of a resource from its metadata. */
export function resourceId({ metadata }: { readonly metadata: Metadata }): string {
  const { name, namespace } = metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/**
 * Returns the IDs under which the object of a user's ID is stored: none if it does not exist, several if releases of
 * Calico with other naming rules have stored it twice.
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

/** The first columns of the tables of most kinds. */
export const nameColumn: Column<{ readonly metadata: Metadata }> = {
  header: 'name',
  cell: ({ metadata }) => metadata.name,
};

export const namespaceColumn: Column<{ readonly metadata: Metadata }> = {
  header: 'namespace',
  cell: ({ metadata }) => metadata.namespace ?? '',
};
