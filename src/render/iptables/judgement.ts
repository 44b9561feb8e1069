import { noMatch } from '../../ruleset/drop-reasons.ts';
import type { HostRule, Statement } from '../../ruleset/statement.ts';
import { countAndDrop } from './count-and-drop.ts';
import { dropChain, policyChain, reasonSet } from './names.ts';
import { markBits, type Match, type RenderOptions, type Rule } from './rule.ts';
import { renderHostRule } from './statements.ts';

type TierStatement = Extract<Statement, { readonly kind: 'tier' }>;

/** What policies may have decided about the packets that reach a rule; their marks tell. */
export interface Decided {
  readonly allowed: boolean;
  readonly passed: boolean;
}

export const nothingDecided: Decided = { allowed: false, passed: false };

/**
 * Renders rules that judge packets until one decides: those behind a tier are for packets that it did not allow, and
 * allowed packets reach the end of the chain. `before` is what may be decided before the first rule.
 */
export function renderJudgement(
  rules: readonly HostRule[],
  options: RenderOptions,
  before: Decided,
): readonly Rule[] {
  let decided = before;
  return rules.flatMap((rule): readonly Rule[] => {
    const { action } = rule;
    if (action.kind === 'tier') {
      const policies = renderTierPolicies(action, decided);
      decided = { allowed: true, passed: decided.passed || action.tier.passLeaves === 'tier' };
      return [...policies, ...renderTierEnd(action, options, decided)];
    }
    if (action.kind === 'begin' || action.kind === 'reconsider') decided = nothingDecided;
    const isOpen = decided.allowed ? [{ kind: 'isAllowed', negated: true } as const] : [];
    return renderHostRule({ ...rule, when: [...isOpen, ...rule.when] }, options);
  });
}

/** Of how many policies an allowed packet must at most pass the rules. */
const policiesAtOnce = 16;

/**
 * Renders the policies of a tier, one after the other, until one allows, denies or passes on: a mark says what it was, and
 * the others are skipped. Source of the scheme: Calico, felix/rules/endpoints.go.
 */
export function renderTierPolicies(
  { tier, direction }: Pick<TierStatement, 'tier' | 'direction'>,
  before: Decided,
): readonly Rule[] {
  const isOfPolicies = tier.passLeaves === 'tier';
  const start: Rule = {
    matches: [],
    action: { kind: 'clearMark', bits: markBits.pass },
    comment: `Start of tier ${tier.name}`,
  };
  const leave: Rule = {
    matches: [{ kind: 'markSet', bits: markBits.accept }],
    action: { kind: 'return' },
    comment: 'Return if policy accepted',
  };
  return [
    ...(isOfPolicies && before.passed ? [start] : []),
    ...tier[direction].flatMap((policy, index): readonly Rule[] => [
      ...(index > 0 && index % policiesAtOnce === 0 ? [leave] : []),
      {
        matches: undecided(
          index === 0
            ? { allowed: before.allowed, passed: false }
            : { allowed: true, passed: isOfPolicies },
        ),
        action: { kind: 'jump', chain: policyChain(direction, policy) },
      },
    ]),
  ];
}

/** Renders what happens to packets that no policy of a tier decides. */
export function renderTierEnd(
  { tier, direction, isOfHost }: TierStatement,
  { family, denyAction }: RenderOptions,
  before: Decided,
): readonly Rule[] {
  if (tier.defaultAction === 'Pass') return [];
  const matches = undecided(before);
  const reason = noMatch(direction, isOfHost === true);
  const drop: readonly Rule[] =
    isOfHost === true
      ? countAndDrop(matches, {
          direction,
          family,
          set: reasonSet(family, reason),
          action: denyAction,
          isOfHost,
        })
      : [{ matches, action: { kind: 'goto', chain: dropChain(reason) } }];
  return drop.map((rule, index) =>
    index === 0 ? { ...rule, comment: `End of tier ${tier.name}` } : rule,
  );
}

/** What packets without a decision match. */
export function undecided({ allowed, passed }: Decided): readonly Match[] {
  const bits = (allowed ? markBits.accept : 0) | (passed ? markBits.pass : 0);
  return bits === 0 ? [] : [{ kind: 'markClear', bits }];
}
