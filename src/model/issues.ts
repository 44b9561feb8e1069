import type { z } from 'zod';

/** Returns the first problem found by a schema, as dotted path and sentence. */
export function firstIssue(error: z.ZodError): { readonly field: string; readonly why: string } {
  const [first] = error.issues;
  const { path, issue } = deepest({ path: first?.path ?? [], issue: first });
  return { field: path.join('.'), why: issue === undefined ? 'is not valid' : sentence(issue) };
}

interface Found {
  readonly path: readonly PropertyKey[];
  readonly issue: z.core.$ZodIssue | undefined;
}

/** The alternative of a failed union that matched furthest has the best message. */
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
  string: 'a string',
  number: 'a number',
  int: 'an integer',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

/** Messages of this program are sentences already; those of the library are rephrased in the same form. */
function sentence(issue: z.core.$ZodIssue): string {
  if (issue.message.endsWith('received undefined')) return 'is missing';
  if (issue.code === 'invalid_type')
    return `must be ${typeWords[issue.expected] ?? issue.expected}`;
  if (issue.code !== 'invalid_value') return issue.message;
  const values = issue.values.map(String);
  return values.length === 1 ? `must be ${values.join()}` : `must be one of ${values.join(', ')}`;
}
