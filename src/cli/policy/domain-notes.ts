import type { View } from '../../cache/view.ts';
import type { Resource } from '../../model/kinds/index.ts';
import { namespaceLabel, type NetworkSet } from '../../model/kinds/network-set.ts';
import { shownName } from '../../model/policy.ts';
import type { EntityRule, PolicyRule } from '../../model/policy-rule.ts';
import { resourceId } from '../../model/resource-type.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { matches } from '../../model/selector/matches.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { selectorProblem } from '../../model/selector/problem.ts';
import { countsDomains, parseOptional } from '../../profiles/compile/compiled-rule.ts';
import type { Direction } from '../../ruleset/policy.ts';
import type { Policy } from './stored.ts';

/**
 * Returns a sentence for each policy and network set if the policy selects the set by a label in rules in which its
 * domain names do not count.
 */
export function domainNotes(
  policies: readonly Policy[],
  sets: () => Iterable<NetworkSet>,
): readonly string[] {
  const uses = policies.map((policy) => ({ policy, selectors: selectorsWithoutDomains(policy) }));
  if (uses.every(({ selectors }) => selectors.length === 0)) return [];
  const withDomains = [...sets()].filter(
    ({ spec }) => (spec.allowedEgressDomains ?? []).length > 0,
  );
  return uses.flatMap(({ policy, selectors }) =>
    withDomains.flatMap((set) => {
      const rules = selectors.filter((one) => names(one, policy, set)).map(({ rule }) => rule);
      if (rules.length === 0) return [];
      const { kind, metadata } = policy;
      const name = `${metadata.namespace === undefined ? '' : `${metadata.namespace}/`}${shownName(policy)}`;
      return [
        `${kind} ${name}: domain names of ${set.kind} ${resourceId(set)} have no effect in ${[...new Set(rules)].join(', ')}: they count for destinations of outbound Allow rules only`,
      ];
    }),
  );
}

/** Likewise for applied resources: policies, and stored policies if network sets are among them. */
export function appliedDomainNotes(view: View, resources: readonly Resource[]): readonly string[] {
  const applied = resources.flatMap((one) => (isSet(one) ? [resourceId(one)] : []));
  const policies = resources.filter(isPolicy);
  if (applied.length === 0 && policies.length === 0) return [];
  const stored = (kind: Policy['kind']) =>
    Array.from(view.list(kind).values(), ({ value }) => value);
  const sets = () =>
    (['GlobalNetworkSet', 'NetworkSet'] as const).flatMap((kind) =>
      Array.from(view.list(kind).values(), ({ value }) => value),
    );
  const ofPolicies = domainNotes(policies, sets);
  if (applied.length === 0) return ofPolicies;
  const others = [...stored('GlobalNetworkPolicy'), ...stored('NetworkPolicy')];
  const ofSets = domainNotes(others, () => resources.filter(isSet));
  return [...new Set([...ofPolicies, ...ofSets])];
}

function isSet(resource: Resource): resource is Extract<Resource, NetworkSet> {
  return resource.kind === 'GlobalNetworkSet' || resource.kind === 'NetworkSet';
}

function isPolicy(resource: Resource): resource is Extract<Resource, Policy> {
  return resource.kind === 'GlobalNetworkPolicy' || resource.kind === 'NetworkPolicy';
}

/** A selector in whose addresses those of domain names are not. */
interface PlainSelector {
  readonly selector: Selector;
  readonly keys: readonly string[];
  /** Which namespaces the entity names, if it names any. */
  readonly namespaces: Selector | undefined;
  /** As users find it: `inbound rule 1`. */
  readonly rule: string;
}

function selectorsWithoutDomains({ spec }: Policy): readonly PlainSelector[] {
  const of = (rules: readonly PolicyRule[], direction: Direction) =>
    rules.flatMap((rule, index) => {
      const { source = {}, destination = {} } = rule;
      const word = direction === 'ingress' ? 'inbound' : 'outbound';
      const isCounted = countsDomains(rule, direction);
      const texts = [...selectorsOf(source, false), ...selectorsOf(destination, isCounted)];
      return texts.map((one) => ({ ...one, rule: `${word} rule ${index + 1}` }));
    });
  return [...of(spec.ingress ?? [], 'ingress'), ...of(spec.egress ?? [], 'egress')];
}

function selectorsOf(
  { selector = '', notSelector = '', namespaceSelector = '' }: EntityRule,
  isCounted: boolean,
): readonly Omit<PlainSelector, 'rule'>[] {
  // What a positive selector does not match is out of the question, whatever else the entity names.
  const found = isCounted ? (selector === '' ? [notSelector] : []) : [selector, notSelector];
  const where = namespaceSelector.trim();
  // A stored policy that cannot be enforced denies everything.
  if (where !== '' && where !== 'global()' && selectorProblem(where) !== undefined) return [];
  return found
    .filter((text) => text !== '' && selectorProblem(text) === undefined)
    .map((text) => {
      const selector = parseSelector(text);
      return { selector, keys: keysOf(selector), namespaces: parseOptional(where) };
    });
}

/** Reports whether a selector names a network set by one of its labels: `all()` does not. */
function names(
  { selector, keys, namespaces }: PlainSelector,
  policy: Policy,
  { metadata }: NetworkSet,
): boolean {
  const { namespace } = policy.metadata;
  if (namespaces === undefined && namespace !== undefined && metadata.namespace !== namespace)
    return false;
  if (namespaces?.kind === 'global' && metadata.namespace !== undefined) return false;
  if (namespaces?.kind === 'all' && metadata.namespace === undefined) return false;
  const { labels = {} } = metadata;
  if (!keys.some((key) => labels[key] !== undefined)) return false;
  const own =
    metadata.namespace === undefined ? [] : [[namespaceLabel, metadata.namespace] as const];
  return matches(selector, new Map([...Object.entries(labels), ...own]));
}

function keysOf(selector: Selector): readonly string[] {
  if (selector.kind === 'not') return keysOf(selector.operand);
  if ('operands' in selector) return selector.operands.flatMap(keysOf);
  return 'key' in selector ? [selector.key] : [];
}
