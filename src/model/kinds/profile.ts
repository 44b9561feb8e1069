import { z } from 'zod';
import { labels, resource } from '../fields.ts';
import { policyRule } from '../policy-rule.ts';

/**
 * Rules that an endpoint brings along, and labels that it gives to its endpoints. A tag `t` of a Profile is
 * the label `t` with an empty value in `labelsToApply`.
 */
export const profile = resource(
  'Profile',
  z.looseObject({
    ingress: z.exactOptional(z.array(policyRule)),
    egress: z.exactOptional(z.array(policyRule)),
    labelsToApply: z.exactOptional(labels),
  }),
);

export type Profile = z.infer<typeof profile>;

/** The tags of a Profile in alphabetical order: the labels to apply whose value is empty. */
export function profileTags(of: Profile): readonly string[] {
  return Object.entries(of.spec.labelsToApply ?? {})
    .filter(([, value]) => value === '')
    .map(([tag]) => tag)
    .toSorted();
}
