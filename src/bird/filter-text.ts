import { createHash } from 'node:crypto';
import type { Community } from '../model/bgp.ts';
import type {
  FilterCondition,
  FilterOperation,
  FilterRule,
  RouteFilter,
} from '../routing/bgp/bgp-filters.ts';

/** BGPFilters as functions of BIRD. Source: BIRD 2 user's guide, Filters; names as Calico's. */

/** The name of the argument that says whether the session is one of iBGP. */
export const isInternal = 'is_internal';

const longestSymbol = 64;

/**
 * Returns the name of a filter's function, quoted. One that would be longer than a symbol may be has a part of the hash
 * of the filter's name. Source: confd/pkg/backends/calico.
 */
export function filterFunction({ name, direction, family }: Omit<RouteFilter, 'rules'>): string {
  const symbol = (part: string) => `bgp_${part}_${direction}FilterV${family}`;
  if (symbol(name).length <= longestSymbol) return `'${symbol(name)}'`;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 16).toUpperCase();
  return `'${symbol(`${name.slice(0, 28)}_${digest}`)}'`;
}

/** Returns the function of a filter: it rejects, or returns whether a rule has accepted. */
export function filterText(filter: RouteFilter): string {
  return [
    `function ${filterFunction(filter)}(bool ${isInternal})`,
    '{',
    ...filter.rules.map((rule) => `  ${ruleText(rule)}`),
    '  return false;',
    '}',
    '',
  ].join('\n');
}

function ruleText({ conditions, operations, accepts }: FilterRule): string {
  const statements = [
    ...operations.flatMap(operationText),
    accepts ? 'return true;' : 'reject;',
  ].join(' ');
  if (conditions.length === 0) return `{ ${statements} }`;
  return `if (${conditions.map((one) => `(${conditionText(one)})`).join(' && ')}) then { ${statements} }`;
}

function conditionText(condition: FilterCondition): string {
  switch (condition.kind) {
    case 'net': {
      const { cidr, isInside, negated, lengths } = condition;
      const operator = isInside ? (negated ? '!~' : '~') : negated ? '!=' : '=';
      if (lengths === undefined) return `net ${operator} ${isInside ? `[ ${cidr}+ ]` : cidr}`;
      // With lengths a network is one of a range of prefixes, whether inside or equal is asked for.
      return `net ${negated ? '!~' : '~'} [ ${cidr}{${lengths[0]},${lengths[1]}} ]`;
    }
    case 'ofPeers':
      return 'defined(source) && source ~ [ RTS_BGP ]';
    case 'interface':
      return `defined(ifname) && ifname ~ "${condition.name}"`;
    case 'community':
      return hasCommunity(condition.community);
    case 'asPathPrefix':
      return `bgp_path ~ [= ${condition.numbers.join(' ')} * =]`;
    case 'priority':
      return `krt_metric = ${condition.value}`;
    default:
      return condition.isInternal ? isInternal : `! ${isInternal}`;
  }
}

function operationText(operation: FilterOperation): readonly string[] {
  switch (operation.kind) {
    case 'addCommunity':
      return [addCommunity(operation.community)];
    case 'prependAsPath':
      // Each is put before the one that was put before.
      return operation.numbers.toReversed().map((number) => `bgp_path.prepend(${number});`);
    default:
      return [`krt_metric = ${operation.value};`];
  }
}

/** Returns the statement that adds a community to a route. */
export function addCommunity(community: Community): string {
  return `${attributeOf(community)}.add(${tupleText(community)});`;
}

/** Returns the condition that a route has a community. */
export function hasCommunity(community: Community): string {
  return `${tupleText(community)} ~ ${attributeOf(community)}`;
}

function attributeOf(community: Community): string {
  return community.length === 2 ? 'bgp_community' : 'bgp_large_community';
}

function tupleText(community: Community): string {
  return `(${community.join(', ')})`;
}
