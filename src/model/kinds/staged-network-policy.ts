import { z } from 'zod';
import { resource } from '../fields.ts';
import {
  lastPolicyFields,
  policyColumns,
  policyFields,
  policyNaming,
  policyProblem,
  stagedFields,
  withStagedAction,
} from '../policy.ts';
import { namespaceColumn, resourceType, type ResourceType } from '../resource-type.ts';

const stagedNetworkPolicy = resource(
  'StagedNetworkPolicy',
  z.looseObject({ ...stagedFields, ...policyFields, ...lastPolicyFields }),
);

/** A NetworkPolicy that is tried out: nobody enforces it. */
export type StagedNetworkPolicy = z.infer<typeof stagedNetworkPolicy>;

export const stagedNetworkPolicyType: ResourceType<StagedNetworkPolicy> = resourceType({
  kind: 'StagedNetworkPolicy',
  plural: 'stagednetworkpolicies',
  aliases: ['snp', 'stagedpolicy', 'spol'],
  meaning: 'staged NetworkPolicy, not enforced',
  isNamespaced: true,
  unenforced: { isPolicy: false },
  schema: stagedNetworkPolicy,
  columns: [namespaceColumn, ...policyColumns],
  validate: policyProblem,
  ...policyNaming(),
  withDefaults: withStagedAction,
});
