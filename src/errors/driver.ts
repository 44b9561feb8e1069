import { entry } from './spec.ts';

export const driverErrors = {
  'driver/placeholder': entry('bug', (d: { what: string }) => d.what),
} as const;
