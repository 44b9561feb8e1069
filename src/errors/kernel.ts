import { entry } from './spec.ts';

export const kernelErrors = {
  'kernel/placeholder': entry('bug', (d: { what: string }) => d.what),
} as const;
