import { z } from 'zod';
import { resource } from '../fields.ts';
import {
  globalPolicyFields,
  lastPolicyFields,
  policyColumns,
  policyFields,
  policyNaming,
  policyProblem,
} from '../policy.ts';
import { resourceType, type ResourceType } from '../resource-type.ts';

const globalNetworkPolicy = resource(
  'GlobalNetworkPolicy',
  z.looseObject({ ...policyFields, ...globalPolicyFields, ...lastPolicyFields }),
);

/** Rules for endpoints of all namespaces, and for host endpoints. */
export type GlobalNetworkPolicy = z.infer<typeof globalNetworkPolicy>;

export const globalNetworkPolicyType: ResourceType<GlobalNetworkPolicy> = resourceType({
  kind: 'GlobalNetworkPolicy',
  plural: 'globalnetworkpolicies',
  aliases: ['gnp'],
  meaning: 'policy for workloads and hosts, by label',
  unenforced: { isPolicy: true },
  schema: globalNetworkPolicy,
  columns: policyColumns,
  validate: policyProblem,
  ...policyNaming(),
});
