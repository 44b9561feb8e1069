import { entry } from './spec.ts';

/** Errors in settings. */
export const configErrors = {
  'config/invalid': entry(
    'input',
    (d: { name: string; value: string; source: string; why: string }) =>
      `${d.name}="${d.value}" (from ${d.source}): ${d.why}`,
  ),
  'config/unreadable': entry(
    'input',
    (d: { file: string; why: string }) => `cannot read settings file ${d.file}: ${d.why}`,
  ),
  'config/bad-line': entry(
    'input',
    (d: { file: string; line: number; text: string }) =>
      `${d.file}, line ${d.line}: "${d.text}" is not NAME=value`,
  ),
  'config/incomplete': entry('input', (d: { why: string }) => d.why),
} as const;
