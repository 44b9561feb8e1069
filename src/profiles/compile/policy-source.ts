import { z } from 'zod';
import { describe } from '../../errors/error.ts';
import {
  globalPolicyFields,
  isDeletion,
  shownName,
  tierOf,
  type PolicyResource,
} from '../../model/policy.ts';
import { conjunction, type Selector } from '../../model/selector/ast.ts';
import {
  directions,
  isStaged,
  policyKey,
  type Direction,
  type EnforcedKind,
  type HostStage,
  type PolicyId,
  type StagedKind,
} from '../../ruleset/policy.ts';
import { ofNamespace, inNamespaces, parseOptional } from './compiled-rule.ts';
import type { PolicyRules } from './compiled-policy.ts';

/** The kinds of policies that select endpoints. */
export type SelectingKind = EnforcedKind | StagedKind;
export type SelectingResource = PolicyResource;

/** A policy with the endpoints that it selects, and its place among others. */
export interface SelectingPolicy {
  readonly id: PolicyId;
  readonly rules: PolicyRules;
  readonly selector: Selector;
  /** To which packets it applies. */
  readonly directions: readonly Direction[];
  /** On host endpoints; containers have policies of the stage `host` only. */
  readonly stage: HostStage;
  /** On host endpoints, whether it judges forwarded packets as well. */
  readonly appliesOnForward: boolean;
  /** Lower ones come first; absent: the last. */
  readonly order: number | undefined;
  /** What decides between policies of equal order. */
  readonly tie: string;
}

/**
 * Reads a stored policy. One with a field that cannot be enforced denies all that it selects; a selector that cannot be
 * parsed selects all endpoints, of its namespace if it has one. Source: libcalico-go/lib/backend/syncersv1/updateprocessors; for the order, felix/calc/policy_sorter.go.
 */
export function readPolicy(
  kind: SelectingKind,
  storedId: string,
  resource: SelectingResource | undefined,
): { readonly key: string; readonly policy: SelectingPolicy | undefined } {
  const slash = storedId.indexOf('/');
  const name = storedId.slice(slash + 1);
  const id: PolicyId = {
    tier: resource === undefined ? '' : tierOf(resource),
    kind,
    ...(namespacedKinds.has(kind) ? { namespace: storedId.slice(0, slash) } : {}),
    name,
  };
  const key = policyKey(id);
  // Of staged policies, a deletion selects nothing; the other actions do not differ. Source: stagednetworkpolicyprocessor.go.
  if (resource === undefined || (isStaged(id) && isDeletion(resource)))
    return { key, policy: undefined };
  const { spec } = resource;
  const { ingress = [], egress = [], types } = spec;
  const { selector, problem } = selection(resource, id.namespace);
  return {
    key,
    policy: {
      id,
      rules: { ingress, egress, ...(problem === undefined ? {} : { problem }) },
      selector,
      directions: directionsOf(types),
      stage: spec.doNotTrack === true ? 'untracked' : spec.preDNAT === true ? 'preDnat' : 'host',
      appliesOnForward: spec.applyOnForward === true,
      order: spec.order,
      tie: `${shownName(resource)}/${id.namespace ?? ''}/${kind}/${name}`,
    },
  };
}

const namespacedKinds: ReadonlySet<SelectingKind> = new Set([
  'NetworkPolicy',
  'StagedNetworkPolicy',
]);

/**
 * Reads what can be read of a stored policy that is invalid. It denies all that it selects; without a readable selector
 * that is everything, and without a readable order it comes first.
 */
export function readUnreadablePolicy(
  kind: EnforcedKind,
  storedId: string,
  { why, text }: { readonly why: string; readonly text: string },
): ReturnType<typeof readPolicy> {
  const given = specOf(text);
  const read = readableFields(given);
  const { key, policy } = readPolicy(kind, storedId, {
    metadata: { name: storedId.slice(storedId.indexOf('/') + 1) },
    spec: read.spec,
  });
  if (policy === undefined) return { key, policy };
  const isOrdered = (given['order'] ?? undefined) === read.spec.order;
  return {
    key,
    policy: {
      ...policy,
      order: isOrdered ? policy.order : -Infinity,
      selector: read.isSelectorReadable
        ? policy.selector
        : (ofNamespace(policy.id.namespace) ?? { kind: 'all' }),
      rules: { problem: `it is invalid: ${why}` },
    },
  };
}

function specOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const { spec } = z.object({ spec: z.record(z.string(), z.unknown()) }).parse(JSON.parse(text));
    return spec;
  } catch {
    // Without a selector that can be read it selects everything.
    return { selector: null };
  }
}

/** Returns the fields that say what a policy selects and where it stands. */
function readableFields(given: Readonly<Record<string, unknown>>) {
  const selectors = ['selector', 'namespaceSelector', 'serviceAccountSelector'] as const;
  const stages = ['doNotTrack', 'preDNAT', 'applyOnForward'] as const;
  const fields = [...selectors, 'tier', 'order', 'types', ...stages] as const;
  const readable = fields.filter(
    (field) => globalPolicyFields[field].safeParse(given[field]).success,
  );
  const spec = z
    .object(globalPolicyFields)
    .pick({
      selector: true,
      namespaceSelector: true,
      serviceAccountSelector: true,
      tier: true,
      order: true,
      types: true,
      doNotTrack: true,
      preDNAT: true,
      applyOnForward: true,
    })
    .parse(Object.fromEntries(readable.map((field) => [field, given[field]])));
  const isSelectorReadable = selectors.every(
    (field) => given[field] === undefined || readable.includes(field),
  );
  return { spec, isSelectorReadable };
}

/** Calico's client stores the types; a policy without them is one of Calico v1, which had none, and applies to both. */
function directionsOf(types: SelectingResource['spec']['types']): readonly Direction[] {
  if (types === undefined || types.length === 0) return directions;
  return types.map((type) => (type === 'Ingress' ? 'ingress' : 'egress'));
}

/** Returns the selector of the endpoints, and what of the policy cannot be enforced. */
function selection(
  { spec }: SelectingResource,
  namespace: string | undefined,
): { readonly selector: Selector; readonly problem?: string } {
  const own = ofNamespace(namespace);
  const all = (selectors: readonly (Selector | undefined)[]): Selector =>
    selectors
      .filter((one) => one !== undefined)
      .reduce<Selector | undefined>(
        (sum, one) => (sum ? conjunction(sum, one) : one),
        undefined,
      ) ?? {
      kind: 'all',
    };
  const parsed: (Selector | undefined)[] = [];
  try {
    parsed.push(parseOptional(spec.selector));
    const ofNamespaces = parseOptional(spec.namespaceSelector);
    parsed.push(ofNamespaces && inNamespaces(ofNamespaces));
    const ofAccounts = parseOptional(spec.serviceAccountSelector);
    parsed.push(ofAccounts && withServiceAccount(ofAccounts));
  } catch (error) {
    return { selector: all([own]), problem: `a selector is invalid: ${describe(error)}` };
  }
  const selector = all([...parsed, own]);
  if (spec.serviceAccountSelector !== undefined) {
    return { selector, problem: 'serviceAccountSelector needs Kubernetes' };
  }
  // A field of a newer Calico may mean that the policy applies to less.
  const unknown = Object.keys(spec).find((field) => !(field in globalPolicyFields));
  return unknown === undefined
    ? { selector }
    : { selector, problem: `${unknown} is no field of a policy that is known` };
}

/** The labels of a service account have a prefix, like those of a namespace. */
function withServiceAccount(selector: Selector): Selector {
  switch (selector.kind) {
    case 'all':
    case 'global':
      return { kind: 'has', key: 'projectcalico.org/serviceaccount' };
    case 'not':
      return { ...selector, operand: withServiceAccount(selector.operand) };
    case 'and':
    case 'or':
      return { ...selector, operands: selector.operands.map(withServiceAccount) };
    default:
      return { ...selector, key: `pcsa.${selector.key}` };
  }
}
