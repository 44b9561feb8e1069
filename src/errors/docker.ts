import { entry } from './spec.ts';

export const dockerErrors = {
  'docker/placeholder': entry('bug', (d: { what: string }) => d.what),
} as const;
