import { z } from 'zod';
import { counted } from '../counted.ts';
import { labels, resource } from '../fields.ts';
import { dockerNameOf } from '../names.ts';
import { policyRule } from '../policy-rule.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';
import { rulesProblem, unenforceableProblem } from '../rule-problem.ts';

const profile = resource(
  'Profile',
  z.looseObject({
    ingress: z.exactOptional(z.array(policyRule)),
    egress: z.exactOptional(z.array(policyRule)),
    labelsToApply: z.exactOptional(labels),
  }),
);

/**
 * Rules for its endpoints, and labels that it gives them. A tag `t` of a Profile is the label `t` with an empty value
 * in `labelsToApply`.
 */
export type Profile = z.infer<typeof profile>;

/**
 * The Profile that allows everything: it exists in every Calico datastore without being stored, and endpoints may name
 * it. Source: libcalico-go/lib/resources/static.go.
 */
export const defaultAllowProfile: Profile = {
  kind: 'Profile',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'projectcalico-default-allow' },
  spec: { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] },
};

/** Reports whether a Profile exists without being stored. */
export function isDefaultAllow(profile: string): boolean {
  return profile === defaultAllowProfile.metadata.name;
}

/** Returns the Profile of a name, given the stored one. */
export function effectiveProfile(name: string, stored: Profile | undefined): Profile | undefined {
  return isDefaultAllow(name) ? defaultAllowProfile : stored;
}

/** Returns why a Profile given by a user is rejected. */
export function profileProblem({ spec }: Profile): Problem | undefined {
  return rulesProblem(spec) ?? unenforceableProblem(spec);
}

/** Returns the tags of a Profile in alphabetical order: the labels to apply whose value is empty. */
export function profileTags(of: Profile): readonly string[] {
  return Object.entries(of.spec.labelsToApply ?? {})
    .filter(([, value]) => value === '')
    .map(([tag]) => tag)
    .toSorted();
}

export const profileType: ResourceType<Profile> = resourceType({
  kind: 'Profile',
  plural: 'profiles',
  meaning: 'rules and tags of the containers that use it',
  schema: profile,
  implicit: [defaultAllowProfile],
  protection: (name) => (isDefaultAllow(name) ? 'fixed' : undefined),
  validate: profileProblem,
  columns: [
    nameColumn,
    { header: 'docker name', cell: ({ metadata }) => dockerNameOf(metadata.name) },
    { header: 'tags', cell: (resource) => profileTags(resource).map(dockerNameOf).join(',') },
    { header: 'inbound', cell: ({ spec }) => counted(spec.ingress?.length ?? 0, 'rule') },
    { header: 'outbound', cell: ({ spec }) => counted(spec.egress?.length ?? 0, 'rule') },
  ],
});
