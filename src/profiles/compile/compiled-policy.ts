import { describe } from '../../errors/error.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import {
  profilePolicy,
  type Direction,
  type NamedPort,
  type Policy,
  type PolicyId,
} from '../../ruleset/policy.ts';
import { compileRule, type CompiledRule, type Selected } from './compiled-rule.ts';

/** A policy ready for rendering and evaluation. */
export interface CompiledPolicy extends Policy {
  readonly ingress: readonly CompiledRule[];
  readonly egress: readonly CompiledRule[];
}

/** The rules of a Profile or policy, or why they cannot be enforced. */
export interface PolicyRules {
  readonly ingress?: readonly PolicyRule[];
  readonly egress?: readonly PolicyRule[];
  /** Of a policy whose other fields cannot be enforced; it denies everything. */
  readonly problem?: string;
}

/**
 * Compiles a policy. One that does not exist, or cannot be enforced, denies all, with the reason. `hasDomains`: whether
 * network sets have domain names.
 */
export function compilePolicy(
  id: PolicyId,
  rules: PolicyRules | undefined,
  hasDomains = false,
): CompiledPolicy {
  if (rules === undefined) return denyAll(id, `${policyTitle(id)} does not exist`);
  const { ingress = [], egress = [], problem } = rules;
  if (problem !== undefined) return denyAll(id, `${policyTitle(id)}: ${problem}`);
  try {
    return {
      id,
      ingress: compileRules(ingress, { policy: id, direction: 'ingress', hasDomains }),
      egress: compileRules(egress, { policy: id, direction: 'egress', hasDomains }),
      problem: undefined,
    };
  } catch (error) {
    return denyAll(id, `${policyTitle(id)}: ${describe(error)}`);
  }
}

/** Compiles a Profile; see `compilePolicy`. */
export function compileProfile(name: string, profile: Profile | undefined): CompiledPolicy {
  return compilePolicy(profilePolicy(name), profile?.spec);
}

/** Returns a policy as users write it: `NetworkPolicy shop/web`. */
export function policyTitle({ kind, namespace, name }: PolicyId): string {
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

/** Returns the selectors of a policy's rules, each as often as it is used. */
export function selectorsOf({ ingress, egress }: CompiledPolicy): readonly Selected[] {
  return [...ingress, ...egress].flatMap(({ source, destination }) =>
    [source, destination].flatMap(({ selected, notSelected }) =>
      [selected, notSelected].flatMap((one) => one ?? []),
    ),
  );
}

/** Returns the port names of a policy's rules, each as often as it is used. */
export function namedPortsOf({ ingress, egress }: CompiledPolicy): readonly NamedPort[] {
  return [...ingress, ...egress].flatMap(({ source, destination }) =>
    [source, destination].flatMap(({ namedPorts, notNamedPorts }) => [
      ...namedPorts,
      ...notNamedPorts,
    ]),
  );
}

/** A policy that denies everything, and why. */
export function denyAll(id: PolicyId, problem: string): CompiledPolicy {
  return { id, ingress: [], egress: [], problem };
}

function compileRules(
  rules: readonly PolicyRule[],
  {
    policy,
    direction,
    hasDomains,
  }: {
    readonly policy: PolicyId;
    readonly direction: Direction;
    readonly hasDomains: boolean;
  },
): readonly CompiledRule[] {
  return rules.map((rule, at) => {
    const index = at + 1;
    try {
      return compileRule(rule, { policy, direction, index }, hasDomains);
    } catch (error) {
      throw new Error(`${direction} rule ${index}: ${describe(error)}`, { cause: error });
    }
  });
}
