import { z } from 'zod';
import { resource } from '../fields.ts';
import { namespacedPolicyFields, policyType } from '../policy.ts';
import type { ResourceType } from '../resource-type.ts';

const networkPolicy = resource('NetworkPolicy', z.looseObject({ ...namespacedPolicyFields }));

/** Rules for the endpoints of a namespace. */
export type NetworkPolicy = z.infer<typeof networkPolicy>;

export const networkPolicyType: ResourceType<NetworkPolicy> = policyType({
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  aliases: ['np', 'policy', 'pol'],
  meaning: 'policy for workloads of a namespace',
  isNamespaced: true,
  isStaged: false,
  schema: networkPolicy,
});
