import { parseAllDocuments, type YAMLError } from 'yaml';
import { z } from 'zod';
import { CalicoError, describe } from '../errors/error.ts';
import { isOpen } from './fields.ts';
import { firstIssue } from './issues.ts';
import { resourceKinds, resourceTypeOf, type Resource, type ResourceKind } from './kinds/index.ts';
import { otherKind } from './kinds/other-resource.ts';
import { unwrapped, withoutNullFields } from './nulls.ts';
import { policyRule } from './policy-rule.ts';

/**
 * Parses resources from YAML or JSON text: one or several documents, or a list of items. Unlike stored data, user
 * input must not have unknown fields, because they are usually typing errors. Throws `cli/bad-document`,
 * `model/unknown-kind` or `model/invalid`. Resources of namespaced kinds without a namespace get the given one.
 */
export function parseResources(text: string, namespace = 'default'): readonly Resource[] {
  return readDocuments(text).flatMap(({ where, value }) =>
    itemsOf(value).map((item) => withNamespace(parseResource(item, where), namespace)),
  );
}

/**
 * Parses the rules of a Profile from YAML or JSON: one document with `ingress` and `egress`; a missing one is empty.
 * Throws the errors of `parseResources`; `profile` is the name for messages.
 */
export function parseRules(text: string, profile: string): z.infer<typeof profileRules> {
  const [document, another] = readDocuments(text);
  const where = document?.where ?? 'the input';
  if (document === undefined || another !== undefined) {
    throw new CalicoError('cli/bad-document', { where, why: 'must be one document of rules' });
  }
  const rules = profileRules.safeParse(withoutNullFields(profileRules, document.value));
  if (!rules.success) {
    const { field, why } = firstIssue(rules.error);
    throw badDocument(where, field, why);
  }
  const unknown = unknownField(profileRules, document.value, []);
  if (unknown !== undefined) throw notAField('Profile', profile, unknown);
  return rules.data;
}

const profileRules = z.looseObject({
  ingress: z.array(policyRule).prefault([]),
  egress: z.array(policyRule).prefault([]),
});

/** Normalises a word for comparison: case, singular or plural. */
function plain(word: string): string {
  return word.toLowerCase().replace(/ies$/, 'y').replace(/s$/, '');
}

const kindOfWord: ReadonlyMap<string, ResourceKind> = new Map(
  resourceKinds.flatMap((kind) => {
    const { plural, aliases } = resourceTypeOf[kind];
    return [kind, plural, ...aliases].map((word) => [plain(word), kind] as const);
  }),
);

/**
 * Returns the kind of a name: `ippool`, `ippools`, `IPPool`; `wep` and `netset` as in calicoctl. Throws
 * `model/unknown-kind`, or `model/not-enforced` for Calico kinds without effect here.
 */
export function resourceKind(word: string): ResourceKind {
  const found = kindOfWord.get(plain(word));
  if (found !== undefined) return found;
  const other = otherKind(word);
  if (other !== undefined) throw new CalicoError('model/not-enforced', { kind: other });
  throw new CalicoError('model/unknown-kind', { kind: word, known: resourceKinds.join(', ') });
}

/** Fields in the usual order. */
export function ordered(resource: object): object {
  const { apiVersion, kind, metadata, spec, ...others } = { ...emptyResource, ...resource };
  return { apiVersion, kind, metadata, spec, ...others };
}

const emptyResource: {
  readonly apiVersion?: unknown;
  readonly kind?: unknown;
  readonly metadata?: unknown;
  readonly spec?: unknown;
} = {};

interface Document {
  /** For messages. */
  readonly where: string;
  readonly value: unknown;
}

/** Maximum nesting of lists and objects; no resource needs more than ten. */
const deepest = 100;
const tooDeep = `is nested more than ${deepest} levels deep`;

function readDocuments(text: string): readonly Document[] {
  // Node would warn about keys that are not text, but not reject them.
  const documents = parseAllDocuments(text, { stringKeys: true, logLevel: 'error' });
  if (!Array.isArray(documents)) return [];
  return documents.map((document, index) => {
    const where = `document ${index + 1}`;
    const [error] = document.errors;
    if (error !== undefined) throw badDocument(where, '', yamlProblem(error));
    const value = plainValue(document, where);
    if (isDeeper(value, deepest)) throw badDocument(where, '', tooDeep);
    return { where, value };
  });
}

function plainValue(document: { toJS(): unknown }, where: string): unknown {
  try {
    return document.toJS();
  } catch (thrown) {
    const why = thrown instanceof RangeError ? tooDeep : describe(thrown);
    throw badDocument(where, '', why);
  }
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

/** Returns the first line of a YAML error, which has the position; the following lines draw it. */
function yamlProblem({ message, code }: YAMLError): string {
  if (code === 'RESOURCE_EXHAUSTION') return tooDeep;
  return (message.split('\n')[0] ?? '').replace(/:$/, '').replace(/^With stringKeys, all /, '');
}

function badDocument(where: string, field: string, why: string): CalicoError {
  return new CalicoError('cli/bad-document', {
    where,
    why: field === '' ? why : `${field}: ${why}`,
  });
}

function itemsOf(document: unknown): readonly unknown[] {
  if (document === undefined || document === null) return [];
  if (Array.isArray(document)) return document;
  const list = z.looseObject({ kind: z.string(), items: z.array(z.unknown()) }).safeParse(document);
  return list.success ? list.data.items : [document];
}

const header = z.looseObject({
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
});

function parseResource(item: unknown, where: string): Resource {
  const head = header.safeParse(item);
  if (!head.success) {
    const { field, why } = firstIssue(head.error);
    throw badDocument(where, field, why);
  }
  const kind = resourceKind(head.data.kind);
  const { name } = head.data.metadata;
  const { schema } = resourceTypeOf[kind];
  const unknown = unknownField(schema, item, []);
  if (unknown !== undefined) throw notAField(kind, name, unknown);
  const result = z.safeParse<z.ZodType<Resource>>(
    schema,
    withoutNullFields(schema, { ...head.data, kind }),
  );
  if (result.success) return result.data;
  const { field, why } = firstIssue(result.error);
  throw new CalicoError('model/invalid', { kind, name, field, why });
}

/** A resource of a namespaced kind without a namespace is in `default`, as in calicoctl. */
function withNamespace(resource: Resource, namespace: string): Resource {
  if (!resourceTypeOf[resource.kind].isNamespaced) return resource;
  return { ...resource, metadata: { namespace, ...resource.metadata } };
}

interface UnknownField {
  readonly path: readonly string[];
  readonly known: string;
}

function notAField(kind: ResourceKind, name: string, { path, known }: UnknownField): CalicoError {
  const why = `is not a field${known === '' ? '' : `; there are ${known}`}`;
  return new CalicoError('model/invalid', { kind, name, field: path.join('.'), why });
}

/** Fields set by the server; users may leave them in edited resources. */
const serverFields: ReadonlySet<string> = new Set([
  'uid',
  'creationTimestamp',
  'resourceVersion',
  'generation',
  'managedFields',
  'status',
]);

/** Returns the path of the first field that a schema does not name. */
function unknownField(
  schema: z.core.$ZodType,
  value: unknown,
  path: readonly string[],
): UnknownField | undefined {
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodObject && typeof value === 'object' && value !== null) {
    const shape: Readonly<Record<string, z.core.$ZodType>> = inner.shape;
    for (const [key, member] of Object.entries(value)) {
      const known = shape[key];
      if (known === undefined) {
        if (serverFields.has(key) || isOpen(inner)) continue;
        return { path: [...path, key], known: Object.keys(shape).join(', ') };
      }
      const found = unknownField(known, member, [...path, key]);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (inner instanceof z.ZodArray && Array.isArray(value)) {
    for (const [index, member] of value.entries()) {
      const found = unknownField(inner.element, member, [...path, String(index)]);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}
