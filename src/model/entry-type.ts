import type { z } from 'zod';
import { CalicoError, describe } from '../errors/error.ts';
import { firstIssue } from './issues.ts';
import { formatJson, parseJson } from './json.ts';
import { withoutNullFields } from './nulls.ts';

/**
 * One kind of stored value: how its key is made from an id and read back, and how its JSON becomes a typed
 * value. An id is the text that tells two values of the kind apart, such as `web` or `libnetwork/host-a-…`.
 */
export interface EntryType<Value> {
  /** What people call it: `IPPool`, `IPAM block`. */
  readonly label: string;
  /** Whether it is a resource that people read and write (see `ResourceType`), and no record of our own. */
  readonly isUserFacing: boolean;
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
   * changed meanwhile: it looks through them to find that there is no other. For kinds of few entries that change
   * seldom; their ids begin with their group.
   */
  readonly isObserved: boolean;
}

/** How an id is written after the prefix of a key, and read back; `undefined` for the key of another kind. */
export interface Segment {
  readonly write: (id: string) => string;
  readonly read: (text: string) => string | undefined;
}

export interface EntryOptions<Value> {
  readonly label: string;
  readonly prefix: string;
  readonly schema: z.ZodType<Value>;
  /** Without: the id is one segment. */
  readonly segment?: Segment;
  readonly groups?: (id: string, value: Value) => readonly string[];
  readonly isObserved?: boolean;
}

/** Makes the type of a record that people do not write; its key is a prefix followed by the id. */
export function entryType<Value>(options: EntryOptions<Value>): EntryType<Value> {
  const { label, prefix, schema, segment = oneSegment } = options;
  return {
    label,
    isUserFacing: false,
    prefix,
    schema,
    key: (id) => prefix + segment.write(id),
    idOf: (key) => (key.startsWith(prefix) ? segment.read(key.slice(prefix.length)) : undefined),
    decode: (key, text) => decodeWith(schema, key, text),
    encode: formatJson,
    groups: options.groups ?? (() => []),
    isObserved: options.isObserved ?? false,
  };
}

const oneSegment: Segment = {
  write: (id) => id,
  read: (text) => (text === '' || text.includes('/') ? undefined : text),
};

/** An id that is written as it is, where it has the form of one. */
export function plainSegment(isId: (text: string) => boolean): Segment {
  return { write: (id) => id, read: (text) => (isId(text) ? text : undefined) };
}

/** Ids of two parts, `<first>/<second>`, written with a fixed text between them. */
export function hostSegment(between: string): Segment {
  return {
    write: (id) => id.replace('/', between),
    read: (text) => {
      const at = text.indexOf(between);
      const [first, second] = [text.slice(0, at), text.slice(at + between.length)];
      return at <= 0 || second === '' || second.includes('/') ? undefined : `${first}/${second}`;
    },
  };
}

/** A CIDR: Calico writes its slash as a dash. */
export const cidrSegment: Segment = {
  write: (id) => id.replace('/', '-'),
  read: (text) => {
    const dash = text.lastIndexOf('-');
    return dash <= 0 || text.includes('/')
      ? undefined
      : `${text.slice(0, dash)}/${text.slice(dash + 1)}`;
  },
};

/** The first part of an id of two, as its only group. */
export function firstPart(id: string): readonly string[] {
  return [id.slice(0, id.indexOf('/'))];
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
