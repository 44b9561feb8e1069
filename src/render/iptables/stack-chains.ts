import { judging, stackRules } from '../../ruleset/judging.ts';
import {
  policyKey,
  type Direction,
  type PolicyId,
  type Stack,
  type StackTier,
} from '../../ruleset/policy.ts';
import type { HostRule } from '../../ruleset/statement.ts';
import {
  nothingDecided,
  renderJudgement,
  renderTierEnd,
  renderTierPolicies,
  undecided,
  type Decided,
} from './judgement.ts';
import {
  behindTierChain,
  blockChain,
  bucketChain,
  bucketSet,
  policyText,
  stackChain,
  stackSet,
} from './names.ts';
import { dropsIfRefused, type Chain, type RenderOptions, type Rule } from './rule.ts';
import { renderHostRule } from './statements.ts';

/** A chain of a stack for packets of a direction: to its endpoints, or from them. */
export interface StackChain {
  readonly name: string;
  /** Returns the policies to which it leads, each once. */
  readonly policies: () => readonly PolicyId[];
  readonly render: (options: RenderOptions) => Chain;
}

/**
 * Returns the chains of a stack for packets of a direction; whoever leads to the first has cleared the marks of verdicts.
 * What follows the policies of its first tier is a chain of its own, because most stacks have it in common.
 */
export function stackChains(
  stack: Stack,
  direction: Direction,
): readonly [first: StackChain, ...StackChain[]] {
  const rules = stackRules(stack, direction);
  const name = stackChain(direction, stack);
  const at = rules.findIndex(({ action }) => action.kind === 'tier');
  const first = rules[at]?.action;
  if (first?.kind !== 'tier' || first.tier.passLeaves === 'policy') {
    const all = (options: RenderOptions) => renderJudgement(rules, options, nothingDecided);
    return [
      chainOf({ name, text: stackText(stack, direction), judging: stack.tiers, direction }, all),
    ];
  }
  const { tier } = first;
  const others = stack.tiers.slice(stack.tiers.indexOf(tier) + 1);
  const behind = behindTierChain(direction, tier, others);
  const passed: Decided = { allowed: false, passed: true };
  return [
    chainOf({ name, text: stackText(stack, direction), judging: [tier], direction }, (options) => [
      ...renderJudgement(rules.slice(0, at), options, nothingDecided),
      ...renderTierPolicies(first, nothingDecided),
      {
        matches: undecided({ allowed: true, passed: false }),
        action: { kind: 'goto', chain: behind },
      },
    ]),
    chainOf(
      {
        name: behind,
        text: `the tier ${tier.name}, then ${stackText({ tiers: others }, direction)}`,
        judging: others,
        direction,
      },
      (options) => [
        ...renderTierEnd(first, options, passed),
        ...renderJudgement(rules.slice(at + 1), options, passed),
      ],
    ),
  ];
}

function chainOf(
  {
    name,
    text,
    judging: tiers,
    direction,
  }: {
    readonly name: string;
    readonly text: string;
    readonly judging: readonly StackTier[];
    readonly direction: Direction;
  },
  render: (options: RenderOptions) => readonly Rule[],
): StackChain {
  return {
    name,
    policies: () => {
      const all = tiers.flatMap((tier) => tier[direction]);
      return [...new Map(all.map((id) => [policyKey(id), id])).values()];
    },
    render: (options) => ({
      name,
      rules: render(options),
      ifRefused: dropsIfRefused(`policy of the containers with ${text} (everything is denied)`),
    }),
  };
}

/** What judges packets of a direction, for people: `the Profiles web,db`. */
function stackText({ tiers }: Pick<Stack, 'tiers'>, direction: Direction): string {
  const policies = tiers.flatMap((tier) => tier[direction]);
  const isOfProfiles = policies.every(({ kind }) => kind === 'Profile');
  if (!isOfProfiles) return [...new Set(policies.map(policyText))].join(', ');
  return `the Profiles ${policies.map(({ name }) => name).join(',') || 'none'}`;
}

/** A stack of a bucket, and its first chains. */
export interface BucketStack {
  readonly name: string;
  readonly chains: Readonly<Record<Direction, string>>;
}

/**
 * Returns the chain to which the dispatch leads packets of a bucket's stacks: that of the stacks if they have the same, or
 * one that looks up the stack.
 */
export function bucketTarget(
  direction: Direction,
  bucket: string,
  stacks: readonly BucketStack[],
): string {
  const [first, ...others] = stacks.map(({ chains }) => chains[direction]);
  const isCommon = first !== undefined && others.every((chain) => chain === first);
  return isCommon ? first : bucketChain(direction, bucket);
}

/** Renders the chain that looks up the stack, given the stacks of the bucket in order. */
export function renderBucket(
  direction: Direction,
  bucket: string,
  stacks: readonly BucketStack[],
  options: RenderOptions,
): Chain {
  return {
    name: bucketChain(direction, bucket),
    ifRefused: dropsIfRefused(
      `policies of the containers of branch ${bucket} (everything is denied)`,
    ),
    rules: [
      ...stacks.map(({ name, chains }): Rule => ({
        matches: [ownEndpoint(direction, stackSet(options.family, name))],
        action: { kind: 'goto', chain: chains[direction] },
      })),
      ...render(behindDispatch(direction), options),
    ],
  };
}

/** Renders the root chain of a direction, given the chains to which it leads by bucket, in order. */
export function renderDispatch(
  direction: Direction,
  targets: readonly (readonly [bucket: string, chain: string])[],
  options: RenderOptions,
): Chain {
  const dispatch = targets.map(([bucket, chain]): Rule => ({
    matches: [ownEndpoint(direction, bucketSet(options.family, bucket))],
    action: { kind: 'goto', chain },
  }));
  return {
    name: blockChain(direction),
    rules: render(judging(direction), options, dispatch),
  };
}

/** Packets of no stack of a bucket continue after the dispatch. */
function behindDispatch(direction: Direction): readonly HostRule[] {
  const rules = judging(direction);
  return rules.slice(rules.findIndex(({ action }) => action.kind === 'dispatch') + 1);
}

function render(
  rules: readonly HostRule[],
  options: RenderOptions,
  dispatch?: readonly Rule[],
): readonly Rule[] {
  return rules.flatMap((rule) => renderHostRule(rule, options, dispatch));
}

function ownEndpoint(direction: Direction, set: string): Rule['matches'][number] {
  return direction === 'egress'
    ? { kind: 'sourceAndInInterfaceSet', set }
    : { kind: 'destinationAndOutInterfaceSet', set };
}
