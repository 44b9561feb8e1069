import { z } from 'zod';
import { resource } from '../fields.ts';
import {
  lastPolicyFields,
  policyColumns,
  policyFields,
  policyNaming,
  policyProblem,
} from '../policy.ts';
import { namespaceColumn, resourceType, type ResourceType } from '../resource-type.ts';

const networkPolicy = resource(
  'NetworkPolicy',
  z.looseObject({ ...policyFields, ...lastPolicyFields }),
);

/** Rules for the endpoints of a namespace. */
export type NetworkPolicy = z.infer<typeof networkPolicy>;

export const networkPolicyType: ResourceType<NetworkPolicy> = resourceType({
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  aliases: ['np', 'policy', 'pol'],
  meaning: 'policy for workloads of a namespace',
  isNamespaced: true,
  unenforced: { isPolicy: true },
  schema: networkPolicy,
  columns: [namespaceColumn, ...policyColumns],
  validate: policyProblem,
  ...policyNaming(),
});
