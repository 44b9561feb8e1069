import type { Draft } from '../../datastore/writer.ts';
import { printable } from '../../errors/printable.ts';
import { counted } from '../../model/counted.ts';
import { resourceId } from '../../model/resource-type.ts';
import { compilePolicy, policyTitle } from '../../profiles/compile/compiled-policy.ts';
import { directions, type Direction } from '../../ruleset/policy.ts';
import { ruleExpression } from '../profiles/rule-expression.ts';
import { formatTable } from '../table.ts';
import { createdBy } from './created-by.ts';
import { domainNotes } from './domain-notes.ts';
import {
  containersOf,
  networkSets,
  policiesInOrder,
  policyNamed,
  tierAction,
  type StoredPolicy,
} from './stored.ts';

/** Output of `policy ls` and `policy show`. */

/** Returns a table of all policies in the order of evaluation. */
export function listPolicies(draft: Draft): string {
  return formatTable(
    ['name', 'tier', 'order', 'inbound', 'outbound', 'selector'],
    policiesInOrder(draft).map((policy) => [
      resourceId(policy.resource),
      policy.id.tier,
      String(policy.order ?? ''),
      ruleCount(policy, 'ingress'),
      ruleCount(policy, 'egress'),
      policy.resource.spec.selector ?? 'all()',
    ]),
  );
}

/** Returns tier, containers and numbered rules of one policy. */
export function showPolicy(draft: Draft, name: string): string {
  const policy = policyNamed(draft, name);
  const { kind, metadata, spec } = policy.resource;
  const { selector = '' } = spec;
  const order = policy.order === undefined ? '' : `, order ${policy.order}`;
  const command = metadata.annotations?.[createdBy];
  const lines = [
    resourceId(policy.resource),
    `  kind: ${kind}`,
    `  tier: ${policy.id.tier}${order}`,
    `  selector: ${selector === '' ? 'all()' : selector}`,
    `  containers: ${selectedNames(draft, policy)}`,
    ...(command === undefined ? [] : [`  created by: calico-cnm ${command}`]),
    ...directions.flatMap((direction) => rulesOf(draft, policy, direction)),
    ...domainNotes([policy.resource], () => networkSets(draft)).map((note) => `  note: ${note}`),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

/** Returns the names of the selected containers. */
function selectedNames(draft: Draft, policy: StoredPolicy): string {
  const names = containersOf(draft, policy);
  const shown = names.length > maxShown ? [...names.slice(0, maxShown), '…'] : names;
  return names.length === 0 ? 'none' : `${shown.join(', ')} (${names.length})`;
}

const maxShown = 10;

function ruleCount({ rules, directions: of }: StoredPolicy, direction: Direction): string {
  return of.includes(direction) ? counted((rules[direction] ?? []).length, 'rule') : '-';
}

function rulesOf(draft: Draft, policy: StoredPolicy, direction: Direction): readonly string[] {
  const word = direction === 'ingress' ? 'inbound' : 'outbound';
  const { id, rules, stage } = policy;
  if (!policy.directions.includes(direction)) return [`  ${word}: not decided by this policy`];
  const { problem } = compilePolicy(id, rules);
  if (problem !== undefined) {
    return [`  ${word}: all denied, because ${problem.replace(`${policyTitle(id)}: `, '')}`];
  }
  const action = tierAction(draft, id.tier, stage).toLowerCase();
  return [
    `  ${word}:`,
    ...(rules[direction] ?? []).map((rule, at) => `    ${at + 1}  ${ruleExpression(rule)}`),
    `    after all policies of tier ${id.tier}: ${action}`,
  ];
}
