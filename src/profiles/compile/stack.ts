import { createHash } from 'node:crypto';
import {
  enforcedTiers,
  policyKey,
  profilePolicy,
  profileTier,
  type HostStage,
  type Stack,
  type StackTier,
} from '../../ruleset/policy.ts';

/** Returns the tier of an endpoint's Profiles, in order. */
export function profilesTier(profiles: readonly string[], stage?: HostStage): StackTier {
  const policies = profiles.map((name) => ({
    ...profilePolicy(name),
    ...(stage === undefined ? {} : { stage }),
  }));
  return {
    name: profileTier,
    ingress: policies,
    egress: policies,
    defaultAction: 'Pass',
    passLeaves: 'policy',
  };
}

/**
 * Returns the stack of an endpoint, by the tiers of the policies that select it and by its Profiles; an endpoint in
 * quarantine has neither. Those with equal enforced tiers have one name: that of the Profiles, if there are no others.
 */
export function stackOf(tiers: readonly StackTier[], profiles: readonly string[]): Stack {
  const all = [...tiers, ...(profiles.length === 0 ? [] : [profilesTier(profiles)])];
  const name = profiles.join(',');
  if (enforcedTiers(tiers).length === 0) return { name, tiers: all };
  const content = enforcedTiers(all).map(({ name: tier, ingress, egress, defaultAction }) => [
    tier,
    defaultAction,
    ingress.map(policyKey),
    egress.map(policyKey),
  ]);
  const digest = createHash('sha256').update(JSON.stringify(content)).digest('base64url');
  return { name: `policies:${digest.slice(0, 27)}`, tiers: all };
}
