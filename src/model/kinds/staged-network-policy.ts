import { z } from 'zod';
import { resource } from '../fields.ts';
import { namespacedPolicyFields, policyType, stagedFields } from '../policy.ts';
import type { ResourceType } from '../resource-type.ts';

const stagedNetworkPolicy = resource(
  'StagedNetworkPolicy',
  z.looseObject({ ...stagedFields, ...namespacedPolicyFields }),
);

/** A NetworkPolicy that is tried out: nobody enforces it. */
export type StagedNetworkPolicy = z.infer<typeof stagedNetworkPolicy>;

export const stagedNetworkPolicyType: ResourceType<StagedNetworkPolicy> = policyType({
  kind: 'StagedNetworkPolicy',
  plural: 'stagednetworkpolicies',
  aliases: ['snp', 'stagedpolicy', 'spol'],
  meaning: 'staged NetworkPolicy, not enforced',
  isNamespaced: true,
  isStaged: true,
  schema: stagedNetworkPolicy,
});
