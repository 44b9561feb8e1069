import { cidrFamily } from '../ip/cidr.ts';
import { portRange, type EntityRule, type PolicyRule } from './policy-rule.ts';
import type { Problem } from './resource-type.ts';
import { selectorProblem } from './selector/problem.ts';

/**
 * Checks for well-formed but invalid rules. Rules: Calico's validator (libcalico-go/lib/validator/v3) and the CEL
 * rules of its API (api/pkg/apis/projectcalico/v3).
 */

type Direction = 'ingress' | 'egress';
type Find = (rule: PolicyRule, direction: Direction) => Problem | undefined;

/** Returns the first rule of a spec, ingress rules first, that Calico rejects. */
export function rulesProblem(spec: Rules): Problem | undefined {
  return firstProblem(spec, ruleProblem);
}

/** Returns the first rule of a spec that Calico accepts but no host enforces: it needs Kubernetes, or a proxy. */
export function unenforceableProblem(spec: Rules): Problem | undefined {
  return firstProblem(spec, ({ http, source, destination }) => {
    if (http !== undefined) return { field: 'http', why: 'is not enforced: it needs a proxy' };
    for (const [side, entity] of Object.entries({ source, destination })) {
      for (const field of ['services', 'serviceAccounts'] as const) {
        if (entity?.[field] === undefined) continue;
        return { field: `${side}.${field}`, why: 'is not enforced: it needs Kubernetes' };
      }
    }
    return undefined;
  });
}

interface Rules {
  readonly ingress?: readonly PolicyRule[];
  readonly egress?: readonly PolicyRule[];
}

function firstProblem(spec: Rules, find: Find): Problem | undefined {
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [index, rule] of (spec[direction] ?? []).entries()) {
      const problem = find(rule, direction);
      if (problem === undefined) continue;
      const field = problem.field === '' ? '' : `.${problem.field}`;
      return { field: `spec.${direction}.${index}${field}`, why: problem.why };
    }
  }
  return undefined;
}

const portProtocols: ReadonlySet<string | number> = new Set(['TCP', 'UDP', 'SCTP', 6, 17, 132]);
const icmpFamilies = new Map<string | number | undefined, 4 | 6>([
  ['ICMP', 4],
  [1, 4],
  ['ICMPv6', 6],
  [58, 6],
]);

function ruleProblem(rule: PolicyRule, direction: Direction): Problem | undefined {
  for (const side of ['source', 'destination'] as const) {
    const problem = entityProblem(rule[side] ?? {}, rule);
    if (problem !== undefined) return { ...problem, field: `${side}.${problem.field}` };
  }
  const { http, protocol } = rule;
  if (http !== undefined && (direction === 'egress' || rule.action !== 'Allow')) {
    return { field: 'http', why: 'needs an ingress rule with action Allow' };
  }
  if (http !== undefined && protocol !== undefined && protocol !== 'TCP' && protocol !== 6) {
    return { field: 'http', why: 'needs protocol TCP' };
  }
  return icmpProblem(rule) ?? familyProblem(rule);
}

function icmpProblem(rule: PolicyRule): Problem | undefined {
  for (const field of ['icmp', 'notICMP'] as const) {
    const match = rule[field];
    if (match === undefined) continue;
    if (!icmpFamilies.has(rule.protocol)) {
      return { field, why: 'needs protocol ICMP or ICMPv6' };
    }
    if (match.code !== undefined && match.type === undefined) {
      return { field: `${field}.code`, why: 'needs a type' };
    }
  }
  return undefined;
}

/** A rule has one family: that of its `ipVersion`, or of its first network. */
function familyProblem(rule: PolicyRule): Problem | undefined {
  const { ipVersion } = rule;
  for (const field of ['protocol', 'notProtocol'] as const) {
    const family = icmpFamilies.get(rule[field]);
    if (ipVersion === undefined || family === undefined || family === ipVersion) continue;
    return { field, why: `${rule[field] ?? ''} contradicts ipVersion ${ipVersion}` };
  }
  let first: number | undefined;
  for (const side of ['source', 'destination'] as const) {
    for (const list of ['nets', 'notNets'] as const) {
      for (const net of rule[side]?.[list] ?? []) {
        const field = `${side}.${list}`;
        const family = cidrFamily(net);
        if (ipVersion !== undefined && family !== ipVersion) {
          return { field, why: `"${net}" contradicts ipVersion ${ipVersion}` };
        }
        first ??= family;
        if (family === first) continue;
        const why = `"${net}" makes the rule mix IPv4 and IPv6; write a rule for each`;
        return { field, why };
      }
    }
  }
  return undefined;
}

function entityProblem(entity: EntityRule, { protocol }: PolicyRule): Problem | undefined {
  for (const field of ['selector', 'notSelector', 'namespaceSelector'] as const) {
    const text = entity[field];
    if (field === 'namespaceSelector' && text?.trim() === 'global()') continue;
    const why = selectorProblem(text);
    if (why !== undefined) return { field, why };
  }
  for (const field of ['ports', 'notPorts'] as const) {
    const ports = entity[field] ?? [];
    const ranges = ports.flatMap((port) => portRange(port) ?? []);
    const isWrong =
      protocol === undefined ? ranges.length > 0 : ports.length > 0 && !portProtocols.has(protocol);
    if (isWrong) return { field, why: 'needs protocol TCP, UDP or SCTP' };
    if (ranges.some(({ first }) => first === 0)) return { field, why: 'must begin at 1' };
  }
  if (entity.notNets?.some((net) => net.endsWith('/0')) === true) {
    return { field: 'notNets', why: 'excludes every address' };
  }
  return undefined;
}
