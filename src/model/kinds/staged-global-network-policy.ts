import { z } from 'zod';
import { resource } from '../fields.ts';
import {
  globalPolicyFields,
  lastPolicyFields,
  policyColumns,
  policyFields,
  policyNaming,
  policyProblem,
  stagedFields,
  withStagedAction,
} from '../policy.ts';
import { resourceType, type ResourceType } from '../resource-type.ts';

const stagedGlobalNetworkPolicy = resource(
  'StagedGlobalNetworkPolicy',
  z.looseObject({
    ...stagedFields,
    ...policyFields,
    ...globalPolicyFields,
    ...lastPolicyFields,
  }),
);

/** A GlobalNetworkPolicy that is tried out: nobody enforces it. */
export type StagedGlobalNetworkPolicy = z.infer<typeof stagedGlobalNetworkPolicy>;

export const stagedGlobalNetworkPolicyType: ResourceType<StagedGlobalNetworkPolicy> = resourceType({
  kind: 'StagedGlobalNetworkPolicy',
  plural: 'stagedglobalnetworkpolicies',
  aliases: ['sgnp'],
  meaning: 'staged GlobalNetworkPolicy, not enforced',
  unenforced: { isPolicy: false },
  schema: stagedGlobalNetworkPolicy,
  columns: policyColumns,
  validate: policyProblem,
  ...policyNaming(),
  withDefaults: withStagedAction,
});
