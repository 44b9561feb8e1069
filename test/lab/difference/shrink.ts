import type { PolicyRule } from '../../../src/model/policy-rule.ts';
import type { HostsWorld } from './walk.ts';

/** Yields worlds that are smaller than one by one step: without a resource, a rule or a criterion. */
export function* smaller(world: HostsWorld): Generator<HostsWorld> {
  for (const policies of without(world.policies)) yield { ...world, policies };
  for (const hostEndpoints of without(world.hostEndpoints)) yield { ...world, hostEndpoints };
  for (const sets of without(world.sets)) yield { ...world, sets };
  for (const name of world.tiers.keys()) {
    yield { ...world, tiers: new Map([...world.tiers].filter(([one]) => one !== name)) };
  }
  for (const [name, profile] of world.profiles) {
    for (const way of ['ingress', 'egress'] as const) {
      for (const rules of fewer(profile[way] ?? [])) {
        yield {
          ...world,
          profiles: new Map([...world.profiles, [name, { ...profile, [way]: rules }]]),
        };
      }
    }
  }
  for (const [index, one] of world.endpoints.entries()) {
    for (const simpler of [
      ...without(one.profiles).map((profiles) => ({ ...one, profiles })),
      ...(Object.keys(one.labels).length > 0 ? [{ ...one, labels: {} }] : []),
    ]) {
      yield { ...world, endpoints: world.endpoints.with(index, simpler) };
    }
  }
  for (const [index, one] of world.policies.entries()) {
    const changed = (spec: typeof one.spec) => ({
      ...world,
      policies: world.policies.with(index, { ...one, spec }),
    });
    for (const field of Object.keys(one.spec)) {
      yield changed(
        Object.fromEntries(Object.entries(one.spec).filter(([name]) => name !== field)),
      );
    }
    for (const way of ['ingress', 'egress'] as const) {
      for (const rules of fewer(one.spec[way] ?? [])) yield changed({ ...one.spec, [way]: rules });
    }
  }
}

/** Returns the list without each of its elements, the halves first. */
function without<T>(list: readonly T[]): readonly (readonly T[])[] {
  const half = Math.floor(list.length / 2);
  const halves = list.length > 2 ? [list.slice(half), list.slice(0, half)] : [];
  return [...halves, ...list.map((_, index) => list.toSpliced(index, 1))];
}

function* fewer(rules: readonly PolicyRule[]): Generator<PolicyRule[]> {
  for (const some of without(rules)) yield [...some];
  for (const [index, rule] of rules.entries()) {
    for (const simpler of simplerRules(rule)) yield rules.with(index, simpler);
  }
}

function* simplerRules(rule: PolicyRule): Generator<PolicyRule> {
  const hasPorts = [rule.source, rule.destination].some(
    (end) => end?.ports !== undefined || end?.notPorts !== undefined,
  );
  for (const field of [
    'source',
    'destination',
    'ipVersion',
    'notProtocol',
    'icmp',
    'notICMP',
  ] as const) {
    if (rule[field] !== undefined) yield omit(rule, field);
  }
  // Ports need a protocol.
  if (rule.protocol !== undefined && !hasPorts && !rule.icmp && !rule.notICMP) {
    yield omit(rule, 'protocol');
  }
  for (const side of ['source', 'destination'] as const) {
    const end = rule[side];
    for (const field of Object.keys(end ?? {})) {
      yield {
        ...rule,
        [side]: Object.fromEntries(Object.entries(end ?? {}).filter(([name]) => name !== field)),
      };
    }
    for (const field of ['nets', 'notNets', 'ports', 'notPorts'] as const) {
      const list = end?.[field] ?? [];
      if (list.length < 2) continue;
      for (let index = 0; index < list.length; index++) {
        yield { ...rule, [side]: { ...end, [field]: list.toSpliced(index, 1) } };
      }
    }
  }
}

function omit<K extends keyof PolicyRule>(rule: PolicyRule, field: K): PolicyRule {
  const { action, ...rest } = rule;
  return { action, ...Object.fromEntries(Object.entries(rest).filter(([name]) => name !== field)) };
}
