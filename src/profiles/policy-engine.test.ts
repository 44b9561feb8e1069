import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress, type IpFamily } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { PolicyRule } from '../model/policy-rule.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { HostGuards } from '../ruleset/host-endpoint.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { selectorSet } from '../ruleset/names.ts';
import { policyKey, profilePolicy, type Dispatch, type PolicyId } from '../ruleset/policy.ts';
import { PolicyEngine } from './policy-engine.ts';

/** Records the output to a renderer. */
class Recorder implements PolicyOutput {
  readonly policies = new Map<string, string>();
  readonly stacks = new Map<string, readonly string[]>();
  readonly sets = new Map<string, Set<string>>();
  readonly guards = new Map<IpFamily, HostGuards>();
  readonly #dispatches = new Map<string, number>();

  setPolicy: PolicyOutput['setPolicy'] = (family, policy) => {
    for (const { source, destination } of [...policy.ingress, ...policy.egress]) {
      for (const { selected, notSelected } of [source, destination]) {
        for (const one of [selected, notSelected]) {
          if (one === undefined) continue;
          assert.ok(this.sets.has(selectorSet(family, one.id)), 'a rule looks into no set');
        }
      }
    }
    this.policies.set(`${family} ${policyKey(policy.id)}`, JSON.stringify(policy));
  };
  removePolicy: PolicyOutput['removePolicy'] = (family, id) => {
    for (const [stack, policies] of this.stacks) {
      const leads = stack.startsWith(`${family} `) && policies.includes(policyKey(id));
      assert.ok(!leads, `${stack} leads to no policy`);
    }
    this.policies.delete(`${family} ${policyKey(id)}`);
  };
  setStack: PolicyOutput['setStack'] = (family, { name, tiers }) => {
    const policies = tiers.flatMap(({ ingress, egress }) =>
      [...new Set([...ingress, ...egress])].map(policyKey),
    );
    for (const policy of policies) {
      assert.ok(this.policies.has(`${family} ${policy}`), `${name} leads to no ${policy}`);
    }
    this.stacks.set(`${family} ${name}`, policies);
  };
  removeStack: PolicyOutput['removeStack'] = (family, name) => {
    for (const key of this.#dispatches.keys()) {
      assert.ok(!key.startsWith(`${family} ${name} <`), `${key} leads to no stack`);
    }
    this.stacks.delete(`${family} ${name}`);
  };
  addDispatch: PolicyOutput['addDispatch'] = (dispatch) => {
    const { family, stack } = dispatch;
    assert.ok(this.stacks.has(`${family} ${stack}`), `no stack ${stack}`);
    const key = dispatchText(dispatch);
    this.#dispatches.set(key, (this.#dispatches.get(key) ?? 0) + 1);
  };
  removeDispatch: PolicyOutput['removeDispatch'] = (dispatch) => {
    const key = dispatchText(dispatch);
    const uses = this.#dispatches.get(key) ?? assert.fail(`never added: ${key}`);
    if (uses > 1) this.#dispatches.set(key, uses - 1);
    else this.#dispatches.delete(key);
  };
  setHostGuards: PolicyOutput['setHostGuards'] = (family, guards) => {
    for (const one of guards.interfaces) {
      const tiers = [...one.untracked, ...one.preDnat, ...one.local, ...one.forwarded];
      for (const id of tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress])) {
        assert.ok(this.policies.has(`${family} ${policyKey(id)}`), `no policy ${policyKey(id)}`);
      }
    }
    this.guards.set(family, guards);
  };
  addSet: PolicyOutput['addSet'] = ({ name }) => {
    if (!this.sets.has(name)) this.sets.set(name, new Set());
  };
  removeSet: PolicyOutput['removeSet'] = (name) => {
    this.sets.delete(name);
  };
  addMember: PolicyOutput['addMember'] = (set, member) => {
    const members = this.sets.get(set) ?? assert.fail(`member of no set: ${set}`);
    members.add(member);
  };
  removeMember: PolicyOutput['removeMember'] = (set, member) => {
    this.sets.get(set)?.delete(member);
  };

  /** Everything in a fixed order. */
  state(): object {
    const sorted = <T>(map: ReadonlyMap<string, T>) =>
      [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      policies: sorted(this.policies),
      stacks: sorted(this.stacks),
      dispatches: [...this.#dispatches.keys()].toSorted(),
      sets: sorted(this.sets).map(([name, members]) => [name, [...members].toSorted()]),
    };
  }
}

function dispatchText({ family, address, interface: name, stack }: Dispatch): string {
  return `${family} ${stack} < ${address},${name}`;
}

function newEngine(): { readonly engine: PolicyEngine; readonly output: Recorder } {
  const output = new Recorder();
  const engine = new PolicyEngine({ node: 'here', families: [4, 6], output });
  return { engine, output };
}

function profile(name: string, tags: readonly string[], ingress: PolicyRule[]): Profile {
  return {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: {
      labelsToApply: Object.fromEntries(tags.map((tag) => [tag, ''])),
      ingress,
      egress: [{ action: 'Allow' }],
    },
  };
}

function networkSet(labels: Readonly<Record<string, string>>, nets: readonly string[]) {
  return {
    kind: 'GlobalNetworkSet' as const,
    apiVersion: 'projectcalico.org/v3' as const,
    metadata: { name: 's', labels },
    spec: { nets: [...nets] },
  };
}

interface EndpointFacts {
  readonly id: string;
  readonly node: string;
  readonly address: string;
  readonly profiles: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly interface: string;
  readonly sandbox?: string;
}

function endpoint(facts: EndpointFacts): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: facts.id,
      namespace: 'libnetwork',
      labels: { 'projectcalico.org/namespace': 'libnetwork', ...facts.labels },
      ...(facts.sandbox === undefined
        ? {}
        : { annotations: { [endpointAnnotations.sandbox]: facts.sandbox } }),
    },
    spec: {
      orchestrator: 'libnetwork',
      node: facts.node,
      endpoint: facts.id,
      ipNetworks: [parseCidr(`${facts.address}/${facts.address.includes(':') ? 128 : 32}`)],
      profiles: [...facts.profiles],
      interfaceName: facts.interface,
    },
  };
}

const exact = { noNullPrototype: true } as const;
const profileName = fc.constantFrom('p1', 'p2', 'p3');
const tag = fc.constantFrom('p1', 'p2', 'extra');
const rule: fc.Arbitrary<PolicyRule> = fc.record(
  {
    action: fc.constantFrom('Allow', 'Deny', 'Pass', 'Log'),
    source: fc.record({ selector: tag.map((name) => `has(${name})`) }, { noNullPrototype: true }),
    destination: fc.record({ selector: tag.map((name) => `has(${name})`) }, exact),
  },
  { ...exact, requiredKeys: ['action', 'source'] },
);

const policyFacts = fc.record({
  tier: fc.constantFrom('t1', 't2', 'default'),
  order: fc.option(fc.constantFrom(1, 2), { nil: undefined }),
  selector: fc.constantFrom('', 'all()', 'has(p1)', "role == 'db'", "role != 'db'", 'broken ('),
  types: fc.constantFrom<('Ingress' | 'Egress')[]>(
    ['Ingress'],
    ['Egress'],
    ['Ingress', 'Egress'],
    [],
  ),
  doNotTrack: fc.constantFrom(false, false, false, true),
  rules: fc.array(rule, { maxLength: 2 }),
});

const change = fc.oneof(
  fc.record({
    kind: fc.constant('policy' as const),
    id: fc.constantFrom('a', 'default.a', 'libnetwork/a', 'shop/a'),
    value: fc.option(policyFacts, { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant('tier' as const),
    name: fc.constantFrom('t1', 't2'),
    value: fc.option(
      fc.record({
        order: fc.constantFrom(1, 2),
        defaultAction: fc.constantFrom<'Deny' | 'Pass'>('Deny', 'Pass'),
      }),
      { nil: undefined },
    ),
  }),
  fc.record({
    kind: fc.constant('profile' as const),
    name: profileName,
    value: fc.option(
      fc.record({ tags: fc.uniqueArray(tag), rules: fc.array(rule, { maxLength: 3 }) }),
      { nil: undefined },
    ),
  }),
  fc.record({
    kind: fc.constant('domains' as const),
    id: fc.constantFrom('s1', 's2'),
    value: fc.option(
      fc.record({ tag, addresses: fc.subarray(['10.0.0.2', '192.0.2.1'].map(parseAddress)) }),
      { nil: undefined },
    ),
  }),
  fc.record({
    kind: fc.constant('endpoint' as const),
    id: fc.constantFrom('e1', 'e2', 'e3', 'e4'),
    value: fc.option(
      fc.record({
        node: fc.constantFrom('here', 'here', 'there'),
        address: fc.constantFrom('10.0.0.1', '10.0.0.2', 'fd00::3'),
        profiles: fc.uniqueArray(profileName, { maxLength: 2 }),
        labels: fc.constantFrom({}, { role: 'db' }, { role: 'app' }),
        interface: fc.constantFrom('cali1', 'cali2', 'cali3'),
        sandbox: fc.option(fc.constantFrom('s1', 's2'), { nil: undefined }),
      }),
      { nil: undefined },
    ),
  }),
);

type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function policyOf(id: string, facts: typeof policyFacts extends fc.Arbitrary<infer T> ? T : never) {
  const { rules, order, ...spec } = facts;
  return {
    metadata: { name: id.slice(id.indexOf('/') + 1) },
    spec: { ...spec, ...(order === undefined ? {} : { order }), ingress: rules, egress: rules },
  };
}

/** Applies a change; of two with one key the last one counts. */
function apply(engine: PolicyEngine, one: Change): void {
  switch (one.kind) {
    case 'profile':
      return engine.setProfile(
        one.name,
        one.value && profile(one.name, one.value.tags, one.value.rules),
      );
    case 'policy': {
      const kind = one.id.includes('/') ? 'NetworkPolicy' : 'GlobalNetworkPolicy';
      return engine.setPolicy(kind, one.id, one.value && policyOf(one.id, one.value));
    }
    case 'tier':
      return engine.setTier(
        one.name,
        one.value && {
          kind: 'Tier',
          apiVersion: 'projectcalico.org/v3',
          metadata: { name: one.name },
          spec: one.value,
        },
      );
    case 'domains': {
      const { value } = one;
      return engine.setDomains(
        one.id,
        value && { set: networkSet({ [value.tag]: '' }, []), addresses: value.addresses },
      );
    }
    default: {
      if (one.value === undefined) return engine.setEndpoint(one.id, undefined);
      const { sandbox, ...facts } = one.value;
      const made = { id: one.id, ...facts, ...(sandbox === undefined ? {} : { sandbox }) };
      return engine.setEndpoint(one.id, endpoint(made));
    }
  }
}

function keyOf(one: Change): string {
  return `${one.kind} ${'id' in one ? one.id : one.name}`;
}

/** A round. */
function settle(engine: PolicyEngine): void {
  engine.beforeRound();
  engine.beforeTables();
  engine.moveEndpoints();
  engine.releaseHeld();
  engine.dropIdle();
}

test('the output depends on the present state alone', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 40 }),
      fc.array(fc.nat(), { minLength: 40, maxLength: 40 }),
      (changes, places) => {
        const lived = newEngine();
        for (const one of changes) apply(lived.engine, one);
        settle(lived.engine);
        const last = [...new Map(changes.map((one) => [keyOf(one), one])).values()];
        const shuffled = last
          .map((one, index) => ({ one, at: places[index] ?? 0 }))
          .toSorted((a, b) => a.at - b.at);
        const fresh = newEngine();
        for (const { one } of shuffled) apply(fresh.engine, one);
        settle(fresh.engine);
        assert.deepEqual(lived.output.state(), fresh.output.state());
      },
    ),
    { numRuns: 500 },
  );
});

test('changes that take effect together, in steps between which others come, lead to the same output', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(change, fc.nat(5)), { maxLength: 40 }), (changes) => {
      const [together, singly] = [newEngine(), newEngine()];
      let steps = together.engine.settleInSteps()[Symbol.iterator]();
      for (const [one, advance] of changes) {
        apply(singly.engine, one);
        together.engine.collect();
        apply(together.engine, one);
        for (let n = 0; n < advance; n++) {
          if (steps.next().done === true) {
            steps = together.engine.settleInSteps()[Symbol.iterator]();
          }
        }
      }
      // It was left in the middle.
      steps.return?.();
      for (const { engine } of [together, singly]) settle(engine);
      assert.deepEqual(together.output.state(), singly.output.state());
    }),
    { numRuns: 500 },
  );
});

test('many policies that come together change the stack of an endpoint once', async () => {
  const { engine, output } = newEngine();
  const facts = { id: 'e1', node: 'here', address: '10.0.0.1', interface: 'cali1' };
  engine.setEndpoint('e1', endpoint({ ...facts, profiles: ['p1'] }));
  const before = engine.work.policiesEmitted;
  engine.collect();
  for (let n = 0; n < 100; n++) {
    engine.setPolicy('GlobalNetworkPolicy', `p${n}`, {
      metadata: { name: `p${n}` },
      spec: { selector: 'all()', ingress: [{ action: 'Allow' }] },
    });
  }
  await engine.settle();
  settle(engine);
  assert.equal(output.stacks.size, 1);
  // Each policy, and one stack.
  assert.equal(engine.work.policiesEmitted - before, 101);
});

test('networks of network sets are members of selectors in use, with inherited labels, until the network set is deleted', () => {
  const { engine, output } = newEngine();
  const source = { selector: "set == 'bad' || has(tagged)" };
  engine.setProfile('p1', profile('p1', [], [{ action: 'Deny', source }]));
  const facts = { id: 'e1', node: 'here', address: '10.0.0.1', interface: 'cali1' };
  engine.setEndpoint('e1', endpoint({ ...facts, profiles: ['p1'] }));
  const set = (labels: Readonly<Record<string, string>>) => ({
    kind: 'NetworkSet' as const,
    apiVersion: 'projectcalico.org/v3' as const,
    metadata: { name: 's', labels, namespace: 'shop' },
    spec: { nets: ['10.9.0.0/16', 'fd00::/64'] },
  });
  const members = () => [...output.sets.values()].flatMap((one) => [...one]).toSorted();
  const others = members();
  engine.setNetworkSet('NetworkSet shop/s', set({ set: 'bad' }));
  assert.deepEqual(members(), [...others, '10.9.0.0/16', 'fd00::/64'].toSorted());
  engine.setNetworkSet('NetworkSet shop/s', set({ set: 'good' }));
  assert.deepEqual(members(), others);
  engine.setProfile('kns.shop', profile('kns.shop', ['tagged'], []));
  assert.deepEqual(members(), [...others, '10.9.0.0/16', 'fd00::/64'].toSorted());
  engine.setNetworkSet('NetworkSet shop/s', undefined);
  assert.deepEqual(members(), others);
});

test('addresses of domain names are members only for destinations of outbound Allow rules, its networks for all', () => {
  const { engine, output } = newEngine();
  const destination = { selector: "set == 'api'" };
  const both: PolicyRule[] = [
    { action: 'Allow', destination },
    { action: 'Deny', destination },
  ];
  const egress: PolicyRule[] = [...both, { action: 'Allow', source: destination }];
  const spec = { selector: 'all()', ingress: both, egress };
  engine.setPolicy('GlobalNetworkPolicy', 'p', { metadata: { name: 'p' }, spec });
  const facts = { id: 'e1', node: 'here', address: '10.0.0.1', interface: 'cali1' };
  engine.setEndpoint('e1', endpoint({ ...facts, profiles: [] }));
  const set = networkSet({ set: 'api' }, ['10.9.0.0/16']);
  engine.setNetworkSet('s', set);
  const id: PolicyId = { tier: 'default', kind: 'GlobalNetworkPolicy', name: 'p' };
  const setsOf = () => {
    const compiled = engine.compiled(4, id);
    return [...compiled.ingress, ...compiled.egress].map(({ source, destination: to }) => {
      const { id: of } = source.selected ?? to.selected ?? assert.fail('it has a selector');
      return [...(output.sets.get(selectorSet(4, of)) ?? assert.fail('its set exists'))];
    });
  };
  const own = ['10.9.0.0/16'];
  assert.deepEqual(setsOf(), [own, own, own, own, own]);
  assert.equal(output.sets.size, 2, 'one of each family');
  const addresses = [parseAddress('192.0.2.1')];
  engine.setDomains('s', { set, addresses });
  assert.deepEqual(setsOf(), [own, own, [...own, '192.0.2.1/32'], own, own]);
  engine.setDomains('s', { set, addresses: [] });
  assert.deepEqual(setsOf(), [own, own, own, own, own]);
  assert.equal(output.sets.size, 4);
  engine.setDomains('s', undefined);
  assert.deepEqual(setsOf(), [own, own, own, own, own]);
  assert.equal(output.sets.size, 2);
});

test('policies exist only in the address families of their endpoints', () => {
  const { engine, output } = newEngine();
  engine.setProfile('web', profile('web', ['web'], [{ action: 'Allow' }]));
  const families = () =>
    [...output.policies.keys()].flatMap((name) =>
      name.endsWith(' pro/web') ? [name.slice(0, 1)] : [],
    );
  const place = { node: 'here', profiles: ['web'] };
  engine.setEndpoint(
    'e4',
    endpoint({ ...place, id: 'e4', address: '10.0.0.1', interface: 'cali4' }),
  );
  assert.deepEqual(families(), ['4']);
  engine.setEndpoint(
    'e6',
    endpoint({ ...place, id: 'e6', address: 'fd00::1', interface: 'cali6' }),
  );
  assert.deepEqual(families(), ['4', '6']);
  engine.setEndpoint('e6', undefined);
  engine.dropIdle();
  assert.deepEqual(families(), ['4']);
});

test('Profiles are evaluated in the order of the endpoint, and the same order is the same stack', () => {
  const { engine, output } = newEngine();
  const orders = [['p1', 'p2'], ['p2', 'p1'], ['p1', 'p2'], []];
  for (const [n, profiles] of orders.entries()) {
    const facts = { node: 'here', address: `10.0.0.${n}`, interface: `cali${n}` };
    engine.setEndpoint(`e${n}`, endpoint({ ...facts, id: `e${n}`, profiles }));
  }
  assert.deepEqual([...output.stacks.values()], [['pro/p1', 'pro/p2'], ['pro/p2', 'pro/p1'], []]);
  const stackOf = (n: number) =>
    engine
      .dispatchesOf(
        endpoint({
          id: `e${n}`,
          node: 'here',
          address: '10.0.0.9',
          profiles: [],
          interface: `cali${n}`,
        }),
      )
      ?.map(({ stack }) => stack);
  assert.deepEqual(stackOf(2), stackOf(0));
  assert.notDeepEqual(stackOf(1), stackOf(0));
});

test('one change costs the same among ten endpoints and among a hundred thousand', () => {
  const cost = (others: number) => {
    const { engine } = newEngine();
    for (const name of ['web', 'db', 'far']) {
      engine.setProfile(
        name,
        profile(name, [name], [{ action: 'Allow', source: { selector: `has(${name})` } }]),
      );
    }
    engine.setEndpoint(
      'local',
      endpoint({
        id: 'local',
        node: 'here',
        address: '10.0.0.1',
        profiles: ['web'],
        interface: 'cali1',
      }),
    );
    for (let n = 0; n < others; n++) {
      engine.setEndpoint(
        `far${n}`,
        endpoint({
          id: `far${n}`,
          node: 'there',
          address: `10.${1 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`,
          profiles: ['far'],
          interface: 'cali9',
        }),
      );
    }
    const costs: object[] = [];
    const measure = (make: () => void) => {
      const before = { ...engine.work };
      make();
      costs.push(
        Object.fromEntries(
          Object.entries(engine.work).map(([key, value]) => [
            key,
            value - Number(Object.entries(before).find(([name]) => name === key)?.[1]),
          ]),
        ),
      );
    };
    measure(() =>
      engine.setEndpoint(
        'second',
        endpoint({
          id: 'second',
          node: 'here',
          address: '10.0.0.2',
          profiles: ['web'],
          interface: 'cali2',
        }),
      ),
    );
    measure(() => engine.setEndpoint('second', undefined));
    measure(() =>
      engine.setEndpoint(
        'joins',
        endpoint({
          id: 'joins',
          node: 'there',
          address: '10.0.0.3',
          profiles: ['web'],
          interface: 'cali3',
        }),
      ),
    );
    measure(() =>
      engine.setProfile(
        'web',
        profile('web', ['web'], [{ action: 'Allow', source: { selector: 'has(db)' } }]),
      ),
    );
    return costs;
  };
  assert.deepEqual(cost(100_000), cost(10));
});

test('the Profile that allows everything exists without being stored, whatever is stored under its name', () => {
  const engine = new PolicyEngine({ node: 'here', families: [4], output: new Recorder() });
  const name = 'projectcalico-default-allow';
  const isOpen = () => {
    const { problem, ingress, egress } = engine.compiled(4, profilePolicy(name));
    const actions = [...ingress, ...egress].map(({ action }) => action);
    return problem === undefined && actions.join() === 'Allow,Allow';
  };
  assert.ok(isOpen());
  engine.setProfile(name, {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { ingress: [{ action: 'Deny' }] },
  });
  assert.ok(isOpen());
  engine.setProfile(name, undefined);
  assert.ok(isOpen());
});
