import { entry } from './spec.ts';

export const configErrors = {
  'config/placeholder': entry('bug', (d: { what: string }) => d.what),
} as const;
