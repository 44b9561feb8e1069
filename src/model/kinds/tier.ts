import { z } from 'zod';
import { resource } from '../fields.ts';

/** A group of policies with an order and an action for what none of them decided. */
export const tier = resource(
  'Tier',
  z.looseObject({
    order: z.exactOptional(z.number()),
    defaultAction: z.exactOptional(z.enum(['Deny', 'Pass'])),
  }),
);

export type Tier = z.infer<typeof tier>;
