import { entry } from './spec.ts';

export const cliErrors = {
  'cli/placeholder': entry('bug', (d: { what: string }) => d.what),
} as const;
