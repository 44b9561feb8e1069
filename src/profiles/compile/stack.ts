import type { Stack } from '../../ruleset/policy.ts';

/** The stack of an endpoint, by its Profiles in order; an endpoint in quarantine has none. Equal ones have one name. */
export function stackOf(profiles: readonly string[]): Stack {
  return { name: profiles.join(','), policies: profiles };
}
