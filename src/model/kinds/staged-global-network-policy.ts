import { z } from 'zod';
import { resource } from '../fields.ts';
import { globalPolicyFields, policyType, stagedFields } from '../policy.ts';
import type { ResourceType } from '../resource-type.ts';

const stagedGlobalNetworkPolicy = resource(
  'StagedGlobalNetworkPolicy',
  z.looseObject({ ...stagedFields, ...globalPolicyFields }),
);

/** A GlobalNetworkPolicy that is tried out: nobody enforces it. */
export type StagedGlobalNetworkPolicy = z.infer<typeof stagedGlobalNetworkPolicy>;

export const stagedGlobalNetworkPolicyType: ResourceType<StagedGlobalNetworkPolicy> = policyType({
  kind: 'StagedGlobalNetworkPolicy',
  plural: 'stagedglobalnetworkpolicies',
  aliases: ['sgnp'],
  meaning: 'staged GlobalNetworkPolicy, not enforced',
  isNamespaced: false,
  isStaged: true,
  schema: stagedGlobalNetworkPolicy,
});
