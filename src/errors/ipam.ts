import { entry } from './spec.ts';

export const ipamErrors = {
  'ipam/placeholder': entry('bug', (d: { what: string }) => d.what),
} as const;
