import type { IpFamily } from '../../ip/address.ts';
import { directions, type Direction, type Policy, type RuleName } from '../../ruleset/policy.ts';
import { noMatch } from '../../ruleset/drop-reasons.ts';
import { countAndDrop } from './count-and-drop.ts';
import { dropChain, policyChain, policyText, reasonSet } from './names.ts';
import { renderPolicyRule } from './policy-rule.ts';
import { dropsIfRefused, type Chain, type RenderOptions, type Rule } from './rule.ts';

const inWords = { ingress: 'inbound', egress: 'outbound' } as const;

/** A counting set with the rule whose drops it counts. */
export interface RuleCounter {
  readonly set: string;
  readonly family: IpFamily;
  readonly rule: RuleName;
}

/** Chains of one policy in one family, and the sets that count their drops. */
export interface RenderedPolicy {
  readonly chains: readonly Chain[];
  readonly counters: readonly RuleCounter[];
}

/** Renders the chains of a policy for packets of some directions: a chain that no other leads to is not needed. */
export function renderPolicy(
  policy: Policy,
  options: RenderOptions,
  judged: readonly Direction[] = directions,
): RenderedPolicy {
  const { family } = options;
  const { stage } = policy.id;
  const counters = new Map<string, RuleCounter>();
  const chains = judged.map((direction): Chain => {
    const chain = policyChain(direction, policy.id);
    if (policy.problem !== undefined) {
      return { name: chain, rules: denyRules(direction, policy.problem, options) };
    }
    const rules = policy[direction].flatMap((rule) => {
      // The tables of the stages have chains of the same name.
      const place = stage === undefined ? chain : `${chain} ${stage}`;
      const rendered = renderPolicyRule(rule, options, place);
      const set = rendered.dropsSet;
      // Rules with the same content share a counter, which has the name of the first.
      if (set !== undefined && !counters.has(set)) {
        counters.set(set, { set, family, rule: rule.name });
      }
      return rendered.rules;
    });
    const what = `rules of the ${policyText(policy.id)}, ${inWords[direction]} (what they judge is denied)`;
    return { name: chain, rules: withoutTrailingReturn(rules), ifRefused: dropsIfRefused(what) };
  });
  return { chains, counters: [...counters.values()] };
}

function denyRules(
  direction: Direction,
  problem: string,
  { family, denyAction, isOfHost = false }: RenderOptions,
): readonly Rule[] {
  const reason = noMatch(direction, isOfHost);
  if (!isOfHost) {
    return [{ matches: [], action: { kind: 'goto', chain: dropChain(reason) }, comment: problem }];
  }
  const set = reasonSet(family, reason);
  const [first, ...rest] = countAndDrop([], {
    direction,
    family,
    set,
    action: denyAction,
    isOfHost,
  });
  return first === undefined ? [] : [{ ...first, comment: problem }, ...rest];
}

function withoutTrailingReturn(rules: readonly Rule[]): readonly Rule[] {
  return rules.at(-1)?.action.kind === 'return' ? rules.slice(0, -1) : rules;
}
