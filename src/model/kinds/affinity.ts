import { z } from 'zod';

/** A host's claim on a block; a missing or empty state is confirmed (data of old releases). */
export const affinity = z.looseObject({
  state: z.exactOptional(z.enum(['confirmed', 'pending', 'pendingDeletion', ''])),
  deleted: z.exactOptional(z.boolean()),
});

export type Affinity = z.infer<typeof affinity>;
