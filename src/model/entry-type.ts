import type { z } from 'zod';
import { CalicoError, describe } from '../errors/error.ts';
import { firstIssue } from './issues.ts';
import { formatJson, parseJson } from './json.ts';
import { withoutNullFields } from './nulls.ts';

/**
 * One kind of stored value: how its key is built from an ID and parsed, and how its JSON becomes a typed value. An ID
 * distinguishes two values of the kind, such as `web` or `libnetwork/host-a-…`.
 */
export interface EntryType<Value> {
  /** Name for users: `IPPool`, `IPAM block`. */
  readonly label: string;
  /** Whether it is a resource that users read and write (see `ResourceType`), and not an internal record. */
  readonly isUserFacing: boolean;
  /** Prefix of all keys of the kind. */
  readonly prefix: string;
  readonly key: (id: string) => string;
  /** Returns the ID, or `undefined` for a key of another kind. */
  readonly idOf: (key: string) => string | undefined;
  /** Likewise, given the part of a key after the prefix. */
  readonly idAfterPrefix: (text: string) => string | undefined;
  /** Decodes a stored text; throws `datastore/corrupt`. */
  readonly decode: (key: string, text: string) => Value;
  readonly encode: (value: Value) => string;
  readonly schema: z.ZodType<Value>;
  /** The groups of an entry, such as its host; the entries of one group are found without a scan. */
  readonly groups: (id: string, value: Value) => readonly string[];
  /**
   * Whether a plan that lists entries of the kind, or one group of it, fails if one was created or changed meanwhile:
   * the plan relies on the absence of others. For kinds with few entries that change rarely; their IDs begin with
   * their group.
   */
  readonly isObserved: boolean;
  /** Returns the lease with which the store removes the entry, if it does. */
  readonly leaseOf: (value: Value) => string | undefined;
}

/** Writes and parses the part of a key after the prefix; `undefined` for the key of another kind. */
export interface Segment {
  readonly write: (id: string) => string;
  readonly read: (text: string) => string | undefined;
}

export interface EntryOptions<Value> {
  readonly label: string;
  readonly prefix: string;
  readonly schema: z.ZodType<Value>;
  /** If absent, the ID is one segment. */
  readonly segment?: Segment;
  readonly groups?: (id: string, value: Value) => readonly string[];
  readonly isObserved?: boolean;
  readonly leaseOf?: (value: Value) => string | undefined;
}

/** Creates the type of an internal record; its key is a prefix followed by the ID. */
export function entryType<Value>(options: EntryOptions<Value>): EntryType<Value> {
  const { label, prefix, schema, segment = oneSegment } = options;
  return {
    label,
    isUserFacing: false,
    prefix,
    schema,
    key: (id) => prefix + segment.write(id),
    idAfterPrefix: segment.read,
    idOf: (key) => (key.startsWith(prefix) ? segment.read(key.slice(prefix.length)) : undefined),
    decode: (key, text) => decodeWith(schema, key, text),
    encode: formatJson,
    groups: options.groups ?? (() => []),
    isObserved: options.isObserved ?? false,
    leaseOf: options.leaseOf ?? (() => undefined),
  };
}

const oneSegment: Segment = {
  write: (id) => id,
  read: (text) => (text === '' || text.includes('/') ? undefined : text),
};

/** An ID written unchanged, if it has the form of one. */
export function plainSegment(isId: (text: string) => boolean): Segment {
  return { write: (id) => id, read: (text) => (isId(text) ? text : undefined) };
}

/** IDs of two parts, `<first>/<second>`, stored with a fixed text between them. */
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

/** Returns the first part of a two-part ID as the only group. */
export function firstPart(id: string): readonly string[] {
  return [id.slice(0, id.indexOf('/'))];
}

function decodeWith<Value>(schema: z.ZodType<Value>, key: string, text: string): Value {
  let json: unknown;
  try {
    // Old releases of Calico wrote nothing for the default.
    json = text === '' ? {} : parseJson(text);
  } catch (error) {
    throw new CalicoError('datastore/corrupt', { key, why: describe(error) }, { cause: error });
  }
  // Most texts have no `null`, and need no copy without it.
  const given = text.includes('null') ? withoutNullFields(schema, json) : json;
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const { field, why } = firstIssue(result.error);
  throw new CalicoError('datastore/corrupt', { key, why: field === '' ? why : `${field}: ${why}` });
}
