import { judging, stackRules } from '../../ruleset/judging.ts';
import { directions, type Direction, type Stack } from '../../ruleset/policy.ts';
import type { HostRule } from '../../ruleset/statement.ts';
import { blockChain, bucketChain, bucketSet, policyText, stackChain, stackSet } from './names.ts';
import { dropsIfRefused, markBits, type Chain, type RenderOptions, type Rule } from './rule.ts';
import { renderHostRule } from './statements.ts';

/** Renders the chain of a stack for packets of a direction: to its endpoints, or from them. */
export function renderStack(stack: Stack, direction: Direction, options: RenderOptions): Chain {
  return {
    name: stackChain(direction, stack),
    ifRefused: dropsIfRefused(
      `policy of the containers with ${stackText(stack, direction)} (everything is denied)`,
    ),
    rules: [
      {
        matches: [],
        action: { kind: 'clearMark', bits: markBits.accept },
      },
      ...render(stackRules(stack, direction), options),
    ],
  };
}

/** What judges packets of a direction, for people: `the Profiles web,db`. */
function stackText({ tiers }: Stack, direction: Direction): string {
  const policies = tiers.flatMap((tier) => tier[direction]);
  const isOfProfiles = policies.every(({ kind }) => kind === 'Profile');
  if (!isOfProfiles) return [...new Set(policies.map(policyText))].join(', ');
  return `the Profiles ${policies.map(({ name }) => name).join(',') || 'none'}`;
}

/** A stack of a bucket, and its chains. */
export interface BucketStack {
  readonly name: string;
  readonly chains: Readonly<Record<Direction, string>>;
}

/** Returns the two chains of one bucket, given its stacks in order. */
export function renderBucket(
  bucket: string,
  stacks: readonly BucketStack[],
  options: RenderOptions,
): readonly Chain[] {
  return directions.map((direction) => ({
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
  }));
}

/** Returns the two root chains, given the buckets that have stacks, in order. */
export function renderDispatch(
  buckets: readonly string[],
  options: RenderOptions,
): readonly Chain[] {
  return directions.map((direction) => {
    const dispatch = buckets.map((bucket): Rule => ({
      matches: [ownEndpoint(direction, bucketSet(options.family, bucket))],
      action: { kind: 'goto', chain: bucketChain(direction, bucket) },
    }));
    return {
      name: blockChain(direction),
      rules: render(judging(direction), options, dispatch),
    };
  });
}

export function bucketChainNames(bucket: string): readonly string[] {
  return directions.map((direction) => bucketChain(direction, bucket));
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
