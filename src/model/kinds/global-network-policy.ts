import { z } from 'zod';
import { resource } from '../fields.ts';
import { globalPolicyFields, policyType } from '../policy.ts';
import type { ResourceType } from '../resource-type.ts';

const globalNetworkPolicy = resource(
  'GlobalNetworkPolicy',
  z.looseObject({ ...globalPolicyFields }),
);

/** Rules for endpoints of all namespaces, and for host endpoints. */
export type GlobalNetworkPolicy = z.infer<typeof globalNetworkPolicy>;

export const globalNetworkPolicyType: ResourceType<GlobalNetworkPolicy> = policyType({
  kind: 'GlobalNetworkPolicy',
  plural: 'globalnetworkpolicies',
  aliases: ['gnp'],
  meaning: 'policy for workloads and hosts, by label',
  isNamespaced: false,
  isStaged: false,
  schema: globalNetworkPolicy,
});
