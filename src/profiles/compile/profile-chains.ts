import { describe } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { dropsIfRefused, type Chain, type Rule } from '../../render/iptables/rule.ts';
import { compileRule, type CompiledRule } from './compiled-rule.ts';
import { noMatchDropsSet, profileChain } from '../../render/iptables/names.ts';
import { countAndDrop } from '../../render/iptables/count-and-drop.ts';
import { renderPolicyRule } from './render-rule.ts';

const directions = ['ingress', 'egress'] as const;
const inWords = { ingress: 'inbound', egress: 'outbound' } as const;

/** A Profile ready for rendering and evaluation; `problem` says why it denies everything. */
export interface CompiledProfile {
  readonly name: string;
  readonly ingress: readonly CompiledRule[];
  readonly egress: readonly CompiledRule[];
  readonly problem: string | undefined;
}

/** What a counting set counts: the rule of a Profile, as text. */
export interface DropMeaning {
  readonly set: string;
  readonly family: IpFamily;
  readonly profile: string;
  readonly direction: 'ingress' | 'egress';
  /** The number of the rule, from 1. */
  readonly rule: number;
}

/** The chains of one Profile in one family, and the sets that count its drops. */
export interface RenderedProfile {
  readonly chains: readonly Chain[];
  readonly drops: readonly DropMeaning[];
}

/** Compiles a Profile. One that is absent, or says what we cannot enforce, denies all, and says why. */
export function compileProfile(name: string, profile: Profile | undefined): CompiledProfile {
  if (profile === undefined) return denyAll(name, `Profile ${name} does not exist`);
  try {
    const { ingress = [], egress = [] } = profile.spec;
    return {
      name,
      ingress: ingress.map((rule, index) => compileNumbered(rule, `ingress rule ${index + 1}`)),
      egress: egress.map((rule, index) => compileNumbered(rule, `egress rule ${index + 1}`)),
      problem: undefined,
    };
  } catch (error) {
    return denyAll(name, `Profile ${name}: ${describe(error)}`);
  }
}

/** The selectors that a Profile's rules use, each as often as it is used. */
export function selectorsOf({ ingress, egress }: CompiledProfile): readonly Selector[] {
  return [...ingress, ...egress].flatMap(({ source, destination }) =>
    [source, destination].flatMap(({ selector, notSelector }) =>
      [selector, notSelector].filter((one) => one !== undefined),
    ),
  );
}

/** Renders the two chains of a Profile: `cali-pri-` (inbound) and `cali-pro-` (outbound). */
export function renderProfile(profile: CompiledProfile, family: IpFamily): RenderedProfile {
  const drops: DropMeaning[] = [];
  const chains = directions.map((direction): Chain => {
    const chain = profileChain(direction, profile.name);
    if (profile.problem !== undefined) {
      return { name: chain, rules: denyRules(direction, family, profile.problem) };
    }
    const rules = profile[direction].flatMap((rule, index) => {
      const comment = `Profile ${profile.name} ${direction} ${index + 1}`;
      const rendered = renderPolicyRule(rule, { family, direction, chain, comment });
      if (rendered.dropsSet !== undefined && !drops.some(({ set }) => set === rendered.dropsSet)) {
        drops.push({
          set: rendered.dropsSet,
          family,
          profile: profile.name,
          direction,
          rule: index + 1,
        });
      }
      return rendered.rules;
    });
    const what = `rules of the Profile ${profile.name}, ${inWords[direction]} (what they judge is denied)`;
    return { name: chain, rules: withoutTrailingReturn(rules), ifRefused: dropsIfRefused(what) };
  });
  return { chains, drops };
}

function compileNumbered(rule: PolicyRule, place: string): CompiledRule {
  try {
    return compileRule(rule);
  } catch (error) {
    throw new Error(`${place}: ${describe(error)}`, { cause: error });
  }
}

/** A Profile that denies everything, and why. */
export function denyAll(name: string, problem: string): CompiledProfile {
  return { name, ingress: [], egress: [], problem };
}

function denyRules(
  direction: 'ingress' | 'egress',
  family: IpFamily,
  problem: string,
): readonly Rule[] {
  const [first, ...rest] = countAndDrop(direction, family, noMatchDropsSet(family, direction), []);
  return first === undefined ? [] : [{ ...first, comment: problem }, ...rest];
}

function withoutTrailingReturn(rules: readonly Rule[]): readonly Rule[] {
  return rules.at(-1)?.action.kind === 'return' ? rules.slice(0, -1) : rules;
}
