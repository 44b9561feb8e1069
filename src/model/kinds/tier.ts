import { z } from 'zod';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';

const tier = resource(
  'Tier',
  z.looseObject({
    order: z.exactOptional(z.number()),
    defaultAction: z.exactOptional(z.enum(['Deny', 'Pass'])),
  }),
);

/** A group of policies with an order and an action for what none of them decided. */
export type Tier = z.infer<typeof tier>;

const defaultOrder = 1_000_000;

/**
 * Tiers that Calico creates in every datastore, with their required spec.
 * Source: libcalico-go/lib/clientv3/client.go; api/pkg/apis/projectcalico/v3/tier.go.
 */
const permanent: ReadonlyMap<string, Tier['spec']> = new Map([
  ['default', { order: defaultOrder, defaultAction: 'Deny' }],
  ['kube-admin', { order: 1000, defaultAction: 'Pass' }],
  ['kube-baseline', { order: 10_000_000, defaultAction: 'Pass' }],
]);

export const tierType: ResourceType<Tier> = resourceType({
  kind: 'Tier',
  plural: 'tiers',
  meaning: 'a group of policies',
  protection: (name) => (permanent.has(name) ? 'permanent' : undefined),
  schema: tier,
  columns: [nameColumn, { header: 'order', cell: ({ spec }) => String(spec.order ?? '') }],
  compare: (a, b) => (a.spec.order ?? defaultOrder) - (b.spec.order ?? defaultOrder),
  withDefaults: ({ spec, ...others }) => ({
    ...others,
    spec: { order: defaultOrder, defaultAction: 'Deny', ...spec },
  }),
  validate: tierProblem,
});

/** Rules: libcalico-go/lib/validator/v3 and the CEL rules of the API. */
function tierProblem({ metadata: { name }, spec }: Tier): Problem | undefined {
  if (name.length > 63 || name.includes('.')) {
    return { field: 'metadata.name', why: 'must be a name of at most 63 characters without dots' };
  }
  const wanted = permanent.get(name);
  for (const field of ['order', 'defaultAction'] as const) {
    if (wanted === undefined || spec[field] === wanted[field]) continue;
    return { field: `spec.${field}`, why: `must be ${wanted[field] ?? ''} for the tier ${name}` };
  }
  return undefined;
}
