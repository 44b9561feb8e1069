import type { z } from 'zod';

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
  string: 'a string',
  number: 'a number',
  int: 'an integer',
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
