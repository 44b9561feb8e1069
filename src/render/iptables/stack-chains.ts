import { judging, stackRules } from '../../ruleset/judging.ts';
import { directions, profileTier, type Direction, type Stack } from '../../ruleset/policy.ts';
import type { HostRule } from '../../ruleset/statement.ts';
import { blockChain, bucketChain, bucketSet, policyText, stackChain, stackSet } from './names.ts';
import { dropsIfRefused, markBits, type Chain, type RenderOptions, type Rule } from './rule.ts';
import { renderHostRule } from './statements.ts';

/** The two chains of a stack: packets to its endpoints, and from them. */
export function renderStack(stack: Stack, options: RenderOptions): readonly Chain[] {
  const { name } = stack;
  return directions.map((direction) => ({
    name: stackChain(direction, name),
    ifRefused: dropsIfRefused(
      `policy of the containers with ${stackText(stack)} (everything is denied)`,
    ),
    rules: [
      {
        matches: [],
        action: { kind: 'clearMark', bits: markBits.accept },
      },
      ...render(stackRules(stack, direction), options),
    ],
  }));
}

/** A stack for people: `the Profiles web,db`. */
function stackText({ tiers }: Stack): string {
  const names = new Set(
    tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress].map(policyText)),
  );
  const isOfProfiles = tiers.every(({ name }) => name === profileTier);
  if (!isOfProfiles) return [...names].join(', ');
  return `the Profiles ${tiers.flatMap(({ ingress }) => ingress.map(({ name }) => name)).join(',') || 'none'}`;
}

/** Returns the two chains of one bucket, given the names of its stacks in order. */
export function renderBucket(
  bucket: string,
  stacks: readonly string[],
  options: RenderOptions,
): readonly Chain[] {
  return directions.map((direction) => ({
    name: bucketChain(direction, bucket),
    ifRefused: dropsIfRefused(
      `policies of the containers of branch ${bucket} (everything is denied)`,
    ),
    rules: [
      ...stacks.map((stack): Rule => ({
        matches: [ownEndpoint(direction, stackSet(options.family, stack))],
        action: { kind: 'goto', chain: stackChain(direction, stack) },
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

/** Returns the names of the chains of a stack, to remove them. */
export function stackChainNames(stack: string): readonly string[] {
  return directions.map((direction) => stackChain(direction, stack));
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
