import { z } from 'zod';
import { mapOf } from '../nulls.ts';

/** Reverse index: how many addresses of which blocks (`10.65.0.0/26`) a handle holds. */
export const handle = z.looseObject({
  block: z.exactOptional(mapOf(z.string(), z.int(), 0)),
  deleted: z.exactOptional(z.boolean()),
});

export type Handle = z.infer<typeof handle>;
