import { describe } from '../../errors/error.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { profileTier, type Direction, type NamedPort, type Policy } from '../../ruleset/policy.ts';
import { compileRule, type CompiledRule } from './compiled-rule.ts';

/** A Profile ready for rendering and evaluation. */
export interface CompiledProfile extends Policy {
  readonly ingress: readonly CompiledRule[];
  readonly egress: readonly CompiledRule[];
}

/** Compiles a Profile. One that does not exist, or cannot be enforced, denies all, with the reason. */
export function compileProfile(name: string, profile: Profile | undefined): CompiledProfile {
  if (profile === undefined) return denyAll(name, `Profile ${name} does not exist`);
  const { ingress = [], egress = [] } = profile.spec;
  try {
    return {
      name,
      ingress: compileRules(ingress, { profile: name, direction: 'ingress' }),
      egress: compileRules(egress, { profile: name, direction: 'egress' }),
      problem: undefined,
    };
  } catch (error) {
    return denyAll(name, `Profile ${name}: ${describe(error)}`);
  }
}

/** Returns the selectors of a Profile's rules, each as often as it is used. */
export function selectorsOf({ ingress, egress }: CompiledProfile): readonly Selector[] {
  return [...ingress, ...egress].flatMap(({ source, destination }) =>
    [source, destination].flatMap(({ selected, notSelected }) =>
      [selected, notSelected].flatMap((one) => (one === undefined ? [] : [one.selector])),
    ),
  );
}

/** Returns the port names of a Profile's rules, each as often as it is used. */
export function namedPortsOf({ ingress, egress }: CompiledProfile): readonly NamedPort[] {
  return [...ingress, ...egress].flatMap(({ source, destination }) =>
    [source, destination].flatMap(({ namedPorts, notNamedPorts }) => [
      ...namedPorts,
      ...notNamedPorts,
    ]),
  );
}

/** A Profile that denies everything, and why. */
export function denyAll(name: string, problem: string): CompiledProfile {
  return { name, ingress: [], egress: [], problem };
}

function compileRules(
  rules: readonly PolicyRule[],
  { profile, direction }: { readonly profile: string; readonly direction: Direction },
): readonly CompiledRule[] {
  return rules.map((rule, at) => {
    const index = at + 1;
    try {
      return compileRule(rule, { tier: profileTier, policy: profile, direction, index });
    } catch (error) {
      throw new Error(`${direction} rule ${index}: ${describe(error)}`, { cause: error });
    }
  });
}
