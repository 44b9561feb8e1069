import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { briefEndpoint } from '../../model/briefs.ts';
import { resourceTypeOf, type EntryValue } from '../../model/kinds/index.ts';
import type { NetworkSet } from '../../model/kinds/network-set.ts';
import { effectiveProfile } from '../../model/kinds/profile.ts';
import {
  endpointTitle,
  hasUnknownLabels,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { resourceId } from '../../model/resource-type.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { matches } from '../../model/selector/matches.ts';
import { tierEnd, tiersInOrder } from '../../profiles/compile/policy-order.ts';
import { readPolicy, type SelectingPolicy } from '../../profiles/compile/policy-source.ts';
import { inherit, lookup } from '../../profiles/select/inherited-labels.ts';
import { enforcedKinds, type EnforcedKind, type HostStage } from '../../ruleset/policy.ts';
import { idsInDraft } from '../resources/resource-plans.ts';

/** Policies and endpoints as stored, and what follows from them for packets. */

export type Policy = EntryValue<EnforcedKind>;

/** A policy as it is enforced, with its resource as users write it. */
export interface StoredPolicy extends SelectingPolicy {
  readonly resource: Policy;
}

/** Returns all policies in the order of evaluation: by order of their tiers, then by their own. */
export function policiesInOrder(draft: Draft): readonly StoredPolicy[] {
  const found = enforcedKinds.flatMap((kind) =>
    [...draft.entries(kind)].flatMap(([id, policy]) => asStored(kind, id, policy)),
  );
  return tiersInOrder(found, (tier) => draft.get('Tier', tier)?.spec).flatMap(
    ({ policies }) => policies,
  );
}

/**
 * Returns the policy with a name: a GlobalNetworkPolicy, or a NetworkPolicy, by `NAMESPACE/NAME` or by its name alone if
 * no other has it. Throws `datastore/not-found` or `cli/bad-argument`.
 */
export function policyNamed(draft: Draft, name: string): StoredPolicy {
  const found = enforcedKinds.flatMap((kind) => {
    const stored = idsInDraft(draft, kind, name).flatMap((id) => {
      const policy = draft.get(kind, id);
      return policy === undefined ? [] : asStored(kind, id, policy);
    });
    return stored.slice(0, 1);
  });
  const inNamespaces =
    found.length > 0
      ? found
      : policiesInOrder(draft).filter(({ resource }) => resource.metadata.name === name);
  const [policy, another] = inNamespaces;
  if (policy === undefined) throw new CalicoError('datastore/not-found', { kind: 'policy', name });
  if (another === undefined) return policy;
  const why = `ambiguous; use one of ${inNamespaces.map(({ resource }) => resourceId(resource)).join(', ')}`;
  throw new CalicoError('cli/bad-argument', { what: `policy ${name}`, why });
}

/** Returns the action for connections that no policy of a tier decides. */
export function tierAction(draft: Draft, tier: string, stage: HostStage = 'host'): 'Deny' | 'Pass' {
  return tierEnd(draft.get('Tier', tier)?.spec, stage);
}

/** Returns the containers on Calico networks that a policy applies to, by name. */
export function containersOf(
  draft: Draft,
  { selector, stage }: SelectingPolicy,
): readonly string[] {
  // Policies before connection tracking and before destination NAT are those of host endpoints.
  return stage === 'host'
    ? selectedContainers(draft, selector, (endpoint) => !hasUnknownLabels(endpoint))
    : [];
}

/** Returns the containers on Calico networks that a selector matches, by name; only some of them, if that is given. */
export function selectedContainers(
  draft: Draft,
  selector: Selector,
  isMeant: (endpoint: WorkloadEndpoint) => boolean = () => true,
): readonly string[] {
  const labelsOf = (profile: string) =>
    effectiveProfile(profile, draft.get('Profile', profile))?.spec.labelsToApply;
  const names = new Set<string>();
  for (const [, endpoint] of draft.entries('WorkloadEndpoint')) {
    const isSelected = matches(selector, lookup(inherit(briefEndpoint(endpoint), labelsOf)));
    if (isSelected && isMeant(endpoint)) names.add(endpointTitle(endpoint));
  }
  return [...names].toSorted();
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

function asStored(kind: EnforcedKind, id: string, policy: Policy): readonly StoredPolicy[] {
  const { policy: enforced } = readPolicy(kind, id, policy);
  const resource =
    policy.kind === 'NetworkPolicy'
      ? resourceTypeOf.NetworkPolicy.shown(policy)
      : resourceTypeOf.GlobalNetworkPolicy.shown(policy);
  return enforced === undefined ? [] : [{ ...enforced, resource }];
}
