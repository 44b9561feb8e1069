import { z } from 'zod';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type ResourceType } from '../resource-type.ts';

const tier = resource(
  'Tier',
  z.looseObject({
    order: z.exactOptional(z.number()),
    defaultAction: z.exactOptional(z.enum(['Deny', 'Pass'])),
  }),
);

/** A group of policies with an order and an action for what none of them decided. */
export type Tier = z.infer<typeof tier>;

/** Tiers that Calico makes by itself. */
const presets: ReadonlySet<string> = new Set(['default', 'kube-admin', 'kube-baseline']);

export const tierType: ResourceType<Tier> = resourceType({
  kind: 'Tier',
  plural: 'tiers',
  meaning: 'a group of policies',
  isBuiltIn: true,
  unenforced: { isPolicy: true, isPreset: (name) => presets.has(name) },
  schema: tier,
  columns: [nameColumn, { header: 'order', cell: ({ spec }) => String(spec.order ?? '') }],
});
