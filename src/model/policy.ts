import { z } from 'zod';
import type { Metadata } from './fields.ts';
import { policyRule } from './policy-rule.ts';
import { rulesProblem, unenforceableProblem } from './rule-problem.ts';
import {
  nameColumn,
  namespaceColumn,
  resourceType,
  type Column,
  type Problem,
  type ResourceType,
} from './resource-type.ts';
import { selectorProblem } from './selector/problem.ts';
import type { StoredEntries } from './stored-entries.ts';

/**
 * Common parts of the kinds of policy: fields, names, checks. Source: Calico v3 API, `NetworkPolicySpec` and
 * `GlobalNetworkPolicySpec`; defaults and names as libcalico-go's client stores them since v3.32.
 */

const policyDirection = z.enum(['Ingress', 'Egress']);

const commonFields = {
  tier: z.exactOptional(z.string()),
  order: z.exactOptional(z.number()),
  ingress: z.exactOptional(z.array(policyRule)),
  egress: z.exactOptional(z.array(policyRule)),
  selector: z.exactOptional(z.string()),
  types: z.exactOptional(z.array(policyDirection)),
};

const serviceAccountSelector = z.exactOptional(z.string());
const performanceHints = z.exactOptional(z.array(z.string()));

/** Fields of policies for the endpoints of a namespace. */
export const namespacedPolicyFields = { ...commonFields, serviceAccountSelector, performanceHints };

/** Fields of policies for endpoints of all namespaces. */
export const globalPolicyFields = {
  ...commonFields,
  doNotTrack: z.exactOptional(z.boolean()),
  preDNAT: z.exactOptional(z.boolean()),
  applyOnForward: z.exactOptional(z.boolean()),
  serviceAccountSelector,
  namespaceSelector: z.exactOptional(z.string()),
  performanceHints,
};

/** Leading field of staged policies: the action planned for the policy of the same name. */
export const stagedFields = {
  stagedAction: z.exactOptional(z.enum(['Set', 'Delete', 'Learn', 'Ignore'])),
};

const allFields = z.looseObject(globalPolicyFields);

/** The fields of all kinds of policy. */
export interface PolicyResource {
  readonly metadata: Metadata;
  readonly spec: z.infer<typeof allFields>;
}

/** The columns after those of the name, as in calicoctl's wide table. */
const policyColumns: readonly Column<PolicyResource>[] = [
  nameColumn,
  { header: 'tier', cell: (policy) => tierOf(policy) },
  { header: 'order', cell: ({ spec }) => String(spec.order ?? '') },
  { header: 'selector', cell: ({ spec }) => spec.selector ?? '' },
];

/** Returns the tier of a policy. */
export function tierOf({ spec }: PolicyResource): string {
  return (spec.tier ?? '') === '' ? 'default' : (spec.tier ?? '');
}

const nameAnnotation = 'projectcalico.org/metadata';
const tierLabel = 'projectcalico.org/tier';

interface PolicyOptions<P> extends Pick<
  ResourceType<P>,
  'plural' | 'aliases' | 'meaning' | 'isNamespaced'
> {
  readonly kind: string;
  readonly schema: z.ZodType<P>;
  /** Whether it is tried out only: no implementation enforces it. */
  readonly isStaged: boolean;
}

/** Declares a kind of policy. */
export function policyType<P extends PolicyResource>({
  isStaged,
  ...options
}: PolicyOptions<P>): ResourceType<P> {
  return resourceType({
    ...options,
    isUnenforced: isStaged,
    columns: [...(options.isNamespaced ? [namespaceColumn] : []), ...policyColumns],
    validate: policyProblem,
    withDefaults: isStaged ? withStagedAction : storedPolicy,
    shown: shownPolicy,
    storedIds: policyIds,
  });
}

/**
 * Returns a policy as Calico's client stores it: with tier, types, the label of its tier and its name as an
 * annotation. A policy without rules and types applies to ingress, which it then denies.
 */
function storedPolicy<P extends PolicyResource>(policy: P): P {
  const { metadata, spec } = policy;
  const tier = tierOf(policy);
  const { types = [], ingress = [], egress = [] } = spec;
  const hasIngress = ingress.length > 0 || egress.length === 0;
  return {
    ...policy,
    metadata: {
      ...metadata,
      labels: { ...metadata.labels, [tierLabel]: tier },
      annotations: {
        ...metadata.annotations,
        [nameAnnotation]: JSON.stringify({ name: metadata.name }),
      },
    },
    spec: {
      ...spec,
      tier,
      types:
        types.length > 0
          ? types
          : [...(hasIngress ? ['Ingress'] : []), ...(egress.length > 0 ? ['Egress'] : [])],
    },
  };
}

/** Like `storedPolicy`, for a staged policy: the default action is to set it, and a deletion has no types. */
function withStagedAction<P extends PolicyResource>(policy: P): P {
  const stored = storedPolicy(policy);
  const spec = { stagedAction: 'Set', ...stored.spec };
  if (!isDeletion(policy)) return { ...stored, spec };
  const { types: _, ...others } = spec;
  return { ...stored, spec: others };
}

/** Reports whether a staged policy stands for the deletion of the policy of its name. */
export function isDeletion({ spec }: PolicyResource): boolean {
  return spec['stagedAction'] === 'Delete';
}

/**
 * Returns a policy with the name given by its user: that of its annotation; without one, that of its key without the
 * prefix `default.`, which releases before v3.32 added.
 */
function shownPolicy<P extends PolicyResource>(policy: P): P {
  const { annotations: all = {}, ...metadata } = policy.metadata;
  const { [nameAnnotation]: _, ...annotations } = all;
  return {
    ...policy,
    metadata: {
      ...metadata,
      name: shownName(policy),
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    },
  };
}

/** Returns the name of a policy as its user gave it. */
export function shownName(policy: PolicyResource): string {
  const { name, annotations = {} } = policy.metadata;
  const text = annotations[nameAnnotation];
  // A failed check costs more than the rest of the policy.
  const given = text === undefined ? undefined : givenName.safeParse(text);
  if (given?.success === true) return given.data.name;
  return tierOf(policy) === 'default' ? name.replace(/^default\./, '') : name;
}

const givenName = z
  .string()
  .transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      context.addIssue({ code: 'custom', message: 'is not valid JSON' });
      return z.NEVER;
    }
  })
  .pipe(z.object({ name: z.string().min(1) }));

/** A policy `foo` may be stored as `foo` or, by releases before v3.32, as `default.foo`. */
function policyIds(id: string): readonly [string, ...string[]] {
  const slash = id.lastIndexOf('/') + 1;
  return [id, `${id.slice(0, slash)}default.${id.slice(slash)}`];
}

const label = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const policyName = new RegExp(`^${label}(\\.${label})?$`);

/** Returns why a policy given by a user is rejected. Rules: libcalico-go/lib/validator/v3. */
function policyProblem(policy: PolicyResource, stored: StoredEntries): Problem | undefined {
  const { spec } = policy;
  if (!policyName.test(shownName(policy))) {
    return { field: 'metadata.name', why: 'must be a name such as "web" or "security.web"' };
  }
  const tier = tierOf(policy);
  if (tier !== 'default' && stored.get('Tier', tier) === undefined) {
    return { field: 'spec.tier', why: `Tier ${tier} does not exist` };
  }
  for (const field of ['selector', 'serviceAccountSelector', 'namespaceSelector'] as const) {
    const why = selectorProblem(spec[field]);
    if (why !== undefined) return { field: `spec.${field}`, why };
  }
  return (
    deletionProblem(policy) ?? hostProblem(spec) ?? rulesProblem(spec) ?? kubernetesProblem(spec)
  );
}

/** Returns a field that only Kubernetes gives a meaning: a policy with it would deny all that it selects. */
function kubernetesProblem(spec: PolicyResource['spec']): Problem | undefined {
  if ((spec.serviceAccountSelector ?? '') !== '') {
    return { field: 'spec.serviceAccountSelector', why: 'is not enforced: it needs Kubernetes' };
  }
  return unenforceableProblem(spec);
}

function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** A deletion says which policy it means, and nothing else. */
function deletionProblem(policy: PolicyResource): Problem | undefined {
  if (!isDeletion(policy)) return undefined;
  const isEmpty = (value: unknown) => value === '' || value === false || isEmptyArray(value);
  const other = Object.entries(policy.spec).find(
    ([field, value]) => !['stagedAction', 'tier'].includes(field) && !isEmpty(value),
  );
  return other && { field: `spec.${other[0]}`, why: 'must be absent if stagedAction is Delete' };
}

/** Fields that GlobalNetworkPolicies on host endpoints must not combine. */
function hostProblem(spec: PolicyResource['spec']): Problem | undefined {
  const { doNotTrack = false, preDNAT = false, applyOnForward = false } = spec;
  if (preDNAT && doNotTrack) {
    return { field: 'spec.preDNAT', why: 'cannot be combined with doNotTrack' };
  }
  if ((preDNAT || doNotTrack) && !applyOnForward) {
    return { field: 'spec.applyOnForward', why: 'must be true with preDNAT or doNotTrack' };
  }
  const hasEgress = (spec.egress ?? []).length > 0 || spec.types?.includes('Egress') === true;
  if (preDNAT && hasEgress) return { field: 'spec.egress', why: 'must be empty with preDNAT' };
  return undefined;
}
