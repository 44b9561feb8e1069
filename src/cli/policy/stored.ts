import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { resourceTypeOf, type EntryValue } from '../../model/kinds/index.ts';
import { namespaceLabel, type NetworkSet } from '../../model/kinds/network-set.ts';
import { endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import { tierOf } from '../../model/policy.ts';
import { resourceId } from '../../model/resource-type.ts';
import { matches } from '../../model/selector/matches.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { selectorProblem } from '../../model/selector/problem.ts';
import { idsInDraft } from '../resources/resource-plans.ts';

/** Policies and endpoints as stored. */

const policyKinds = ['GlobalNetworkPolicy', 'NetworkPolicy'] as const;
export type PolicyKind = (typeof policyKinds)[number];
export type Policy = EntryValue<PolicyKind>;

/** Returns all policies in the order of evaluation: by order of their tiers, then by their own. */
export function policiesInOrder(draft: Draft): readonly Policy[] {
  const found = policyKinds.flatMap((kind) =>
    [...draft.entries(kind)].map(([, policy]) => asShown(policy)),
  );
  const tier = (policy: Policy) => draft.get('Tier', tierOf(policy));
  return found.toSorted(
    (a, b) =>
      Number(tier(a) === undefined) - Number(tier(b) === undefined) ||
      byOrder(tier(a)?.spec.order, tier(b)?.spec.order) ||
      byText(tierOf(a), tierOf(b)) ||
      byOrder(a.spec.order, b.spec.order) ||
      byText(a.metadata.name, b.metadata.name),
  );
}

/**
 * Returns the policy with a name: a GlobalNetworkPolicy, or a NetworkPolicy, by `NAMESPACE/NAME` or by its name alone if
 * no other has it. Throws `datastore/not-found` or `cli/bad-argument`.
 */
export function policyNamed(draft: Draft, name: string): Policy {
  const found = policyKinds.flatMap((kind) => {
    const stored = idsInDraft(draft, kind, name).flatMap((id) => draft.get(kind, id) ?? []);
    return stored.slice(0, 1).map(asShown);
  });
  const inNamespaces =
    found.length > 0 ? found : policiesInOrder(draft).filter((one) => one.metadata.name === name);
  const [policy, another] = inNamespaces;
  if (policy === undefined) throw new CalicoError('datastore/not-found', { kind: 'policy', name });
  if (another === undefined) return policy;
  const why = `ambiguous; use one of ${inNamespaces.map(resourceId).join(', ')}`;
  throw new CalicoError('cli/bad-argument', { what: `policy ${name}`, why });
}

/** Returns the action for connections that no policy of a tier decides; that of a missing tier is to deny. */
export function tierAction(draft: Draft, tier: string): 'Deny' | 'Pass' {
  return draft.get('Tier', tier)?.spec.defaultAction ?? 'Deny';
}

/** Returns the containers on Calico networks that a selector matches, by name; an invalid one matches all. */
export function selectedContainers(
  draft: Draft,
  text: string,
  namespace?: string,
): readonly string[] {
  const selector = parseSelector(selectorProblem(text) === undefined ? text : '');
  const names = new Set<string>();
  for (const [, endpoint] of draft.entries('WorkloadEndpoint')) {
    const { metadata, spec } = endpoint;
    if (namespace !== undefined && metadata.namespace !== namespace) continue;
    const inherited = (spec.profiles ?? []).flatMap((profile) =>
      Object.entries(draft.get('Profile', profile)?.spec.labelsToApply ?? {}),
    );
    const labels = new Map([
      ...inherited,
      ...Object.entries(metadata.labels ?? {}),
      [namespaceLabel, metadata.namespace ?? ''],
    ]);
    if (matches(selector, labels)) names.add(endpointTitle(endpoint));
  }
  return [...names].toSorted(byText);
}

/** Returns the network sets of all namespaces. */
export function networkSets(draft: Draft): readonly NetworkSet[] {
  return (['GlobalNetworkSet', 'NetworkSet'] as const).flatMap((kind) =>
    Array.from(draft.entries(kind), ([, set]) => set),
  );
}

/** Reports whether a network set of any namespace has one of the labels that a selector compares. */
export function hasNetworkSetLabel(draft: Draft, key: string): boolean {
  return networkSets(draft).some(({ metadata }) => metadata.labels?.[key] !== undefined);
}

function asShown(policy: Policy): Policy {
  return policy.kind === 'NetworkPolicy'
    ? resourceTypeOf.NetworkPolicy.shown(policy)
    : resourceTypeOf.GlobalNetworkPolicy.shown(policy);
}

function byOrder(a = Infinity, b = Infinity): number {
  return a === b ? 0 : a - b;
}

function byText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
