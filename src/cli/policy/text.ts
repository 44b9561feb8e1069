import type { Draft } from '../../datastore/writer.ts';
import { printable } from '../../errors/printable.ts';
import { counted } from '../../model/counted.ts';
import { tierOf } from '../../model/policy.ts';
import { resourceId } from '../../model/resource-type.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { ruleExpression } from '../profiles/rule-expression.ts';
import { formatTable } from '../table.ts';
import { createdBy } from './created-by.ts';
import { domainNotes } from './domain-notes.ts';
import {
  networkSets,
  policiesInOrder,
  policyNamed,
  selectedContainers,
  tierAction,
  type Policy,
} from './stored.ts';

/** Output of `policy ls` and `policy show`. */

/** Returns a table of all policies in the order of evaluation. */
export function listPolicies(draft: Draft): string {
  return formatTable(
    ['name', 'tier', 'order', 'inbound', 'outbound', 'selector'],
    policiesInOrder(draft).map((policy) => [
      resourceId(policy),
      tierOf(policy),
      String(policy.spec.order ?? ''),
      ruleCount(policy, 'Ingress'),
      ruleCount(policy, 'Egress'),
      policy.spec.selector ?? 'all()',
    ]),
  );
}

/** Returns tier, containers and numbered rules of one policy. */
export function showPolicy(draft: Draft, name: string): string {
  const policy = policyNamed(draft, name);
  const { kind, metadata, spec } = policy;
  const selector = spec.selector ?? '';
  const order = spec.order === undefined ? '' : `, order ${spec.order}`;
  const names = selectedNames(draft, policy, selector);
  const command = metadata.annotations?.[createdBy];
  const lines = [
    resourceId(policy),
    `  kind: ${kind}`,
    `  tier: ${tierOf(policy)}${order}`,
    `  selector: ${selector === '' ? 'all()' : selector}`,
    `  containers: ${names}`,
    ...(command === undefined ? [] : [`  created by: calico-cnm ${command}`]),
    ...rulesOf(draft, policy, 'Ingress'),
    ...rulesOf(draft, policy, 'Egress'),
    ...domainNotes([policy], () => networkSets(draft)).map((note) => `  note: ${note}`),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

/** Returns the names of the selected containers. */
function selectedNames(draft: Draft, policy: Policy, selector: string): string {
  const names = selectedContainers(draft, selector, policy.metadata.namespace);
  const shown = names.length > maxShown ? [...names.slice(0, maxShown), '…'] : names;
  return names.length === 0 ? 'none' : `${shown.join(', ')} (${names.length})`;
}

const maxShown = 10;

type Direction = 'Ingress' | 'Egress';

/** Without types the rules decide: a policy without rules applies to inbound connections. */
function isOf({ spec: { types = [], egress = [], ingress = [] } }: Policy, of: Direction): boolean {
  if (types.length > 0) return types.includes(of);
  return of === 'Egress' ? egress.length > 0 : ingress.length > 0 || egress.length === 0;
}

function rulesIn({ spec }: Policy, direction: Direction): readonly PolicyRule[] {
  return (direction === 'Ingress' ? spec.ingress : spec.egress) ?? [];
}

function ruleCount(policy: Policy, direction: Direction): string {
  return isOf(policy, direction) ? counted(rulesIn(policy, direction).length, 'rule') : '-';
}

function rulesOf(draft: Draft, policy: Policy, direction: Direction): readonly string[] {
  const word = direction === 'Ingress' ? 'inbound' : 'outbound';
  if (!isOf(policy, direction)) return [`  ${word}: not decided by this policy`];
  const tier = tierOf(policy);
  const action = tierAction(draft, tier).toLowerCase();
  return [
    `  ${word}:`,
    ...rulesIn(policy, direction).map((rule, at) => `    ${at + 1}  ${ruleExpression(rule)}`),
    `    after all policies of tier ${tier}: ${action}`,
  ];
}
