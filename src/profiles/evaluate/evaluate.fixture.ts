import { policyKey, type StackTier } from '../../ruleset/policy.ts';
import type { CompiledPolicy } from '../compile/compiled-policy.ts';
import { stackOf } from '../compile/stack.ts';
import type { JudgedStack } from './evaluate.ts';

/** Returns the stack of an endpoint with these Profiles, and with policies in tiers before them. */
export function judged(
  profiles: readonly CompiledPolicy[],
  tiers: readonly StackTier[] = [],
  policies: readonly CompiledPolicy[] = [],
): JudgedStack {
  const byKey = new Map([...profiles, ...policies].map((one) => [policyKey(one.id), one]));
  return {
    stack: stackOf(
      tiers,
      profiles.map(({ id }) => id.name),
    ),
    compiled: (id) => {
      const found = byKey.get(policyKey(id));
      if (found === undefined) throw new Error(`no policy ${policyKey(id)}`);
      return found;
    },
  };
}
