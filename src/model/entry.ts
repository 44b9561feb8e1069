import type { z } from 'zod';
import { CalicoError, describe } from '../errors/error.ts';
import { formatJson, parseJson } from './json.ts';
import { withoutNullFields } from './nulls.ts';

/**
 * One kind of stored value: how its key is made from an id and read back, and how its JSON becomes a typed
 * value. An id is the text that tells two values of the kind apart, such as `web` or `libnetwork/host-a-…`.
 */
export interface EntryType<Value> {
  /** What people call it: `IPPool`, `IPAM block`. */
  readonly label: string;
  /** All keys of the kind begin with this. */
  readonly prefix: string;
  readonly key: (id: string) => string;
  /** The id, or `undefined` for a key of another kind. */
  readonly idOf: (key: string) => string | undefined;
  /** Typed value of a stored text; throws `datastore/corrupt`. */
  readonly decode: (key: string, text: string) => Value;
  readonly encode: (value: Value) => string;
  readonly schema: z.ZodType<Value>;
  /** The groups that an entry belongs to, such as its host; those of one group can be found without a search. */
  readonly groups: (id: string, value: Value) => readonly string[];
  /**
   * Whether a plan that lists entries of the kind, or one group of it, is carried out only if none was made or
   * changed meanwhile. For kinds of few entries that change seldom; their ids begin with their group.
   */
  readonly isObserved: boolean;
}

/** Makes an entry type whose key is a prefix followed by the id, mapped by `segment` and back. */
export function entryType<Value>(options: {
  readonly label: string;
  readonly prefix: string;
  readonly schema: z.ZodType<Value>;
  readonly segment?: {
    readonly write: (id: string) => string;
    readonly read: (text: string) => string | undefined;
  };
  readonly groups?: (id: string, value: Value) => readonly string[];
  readonly isObserved?: boolean;
}): EntryType<Value> {
  const { label, prefix, schema } = options;
  const write = options.segment?.write ?? ((id: string) => id);
  const read = options.segment?.read ?? singleSegment;
  return {
    label,
    prefix,
    schema,
    key: (id) => prefix + write(id),
    idOf: (key) => (key.startsWith(prefix) ? read(key.slice(prefix.length)) : undefined),
    decode: (key, text) => decodeWith(schema, key, text),
    encode: formatJson,
    groups: options.groups ?? (() => []),
    isObserved: options.isObserved ?? false,
  };
}

function singleSegment(text: string): string | undefined {
  return text === '' || text.includes('/') ? undefined : text;
}

function decodeWith<Value>(schema: z.ZodType<Value>, key: string, text: string): Value {
  let json: unknown;
  try {
    // Old releases of Calico wrote nothing where everything was as usual.
    json = text === '' ? {} : parseJson(text);
  } catch (error) {
    throw new CalicoError('datastore/corrupt', { key, why: describe(error) }, { cause: error });
  }
  const result = schema.safeParse(withoutNullFields(schema, json));
  if (result.success) return result.data;
  const { field, why } = firstIssue(result.error);
  throw new CalicoError('datastore/corrupt', { key, why: field === '' ? why : `${field}: ${why}` });
}

/** The first problem that a schema found, as dotted path and sentence. */
export function firstIssue(error: z.ZodError): { readonly field: string; readonly why: string } {
  const [first] = error.issues;
  const { path, issue } = deepest({ path: first?.path ?? [], issue: first });
  return { field: path.join('.'), why: issue === undefined ? 'is not valid' : sentence(issue) };
}

interface Found {
  readonly path: readonly PropertyKey[];
  readonly issue: z.core.$ZodIssue | undefined;
}

/** Of a failed union, the alternative that got furthest says most. */
function deepest({ path, issue }: Found): Found {
  if (issue?.code !== 'invalid_union') return { path, issue };
  const inner = issue.errors
    .map((alternative) => deepest({ path: alternative[0]?.path ?? [], issue: alternative[0] }))
    .toSorted((a, b) => b.path.length - a.path.length)[0];
  return inner === undefined || inner.path.length === 0
    ? { path, issue }
    : { path: [...path, ...inner.path], issue: inner.issue };
}

const typeWords: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

/** Our own messages are sentences already; the library's are put into the same words. */
function sentence(issue: z.core.$ZodIssue): string {
  if (issue.message.endsWith('received undefined')) return 'is missing';
  if (issue.code === 'invalid_type')
    return `must be ${typeWords[issue.expected] ?? issue.expected}`;
  if (issue.code !== 'invalid_value') return issue.message;
  const values = issue.values.map(String);
  return values.length === 1 ? `must be ${values.join()}` : `must be one of ${values.join(', ')}`;
}
