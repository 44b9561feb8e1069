import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCidr } from '../ip/cidr.ts';
import type { PolicyRule } from '../model/policy-rule.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { selectorSet } from '../ruleset/names.ts';
import type { Dispatch } from '../ruleset/policy.ts';
import { PolicyEngine } from './policy-engine.ts';

/** Records the output to a renderer. */
class Recorder implements PolicyOutput {
  readonly policies = new Map<string, string>();
  readonly stacks = new Map<string, readonly string[]>();
  readonly sets = new Map<string, Set<string>>();
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
    this.policies.set(`${family} ${policy.name}`, JSON.stringify(policy));
  };
  removePolicy: PolicyOutput['removePolicy'] = (family, name) => {
    for (const [stack, policies] of this.stacks) {
      const leads = stack.startsWith(`${family} `) && policies.includes(name);
      assert.ok(!leads, `${stack} leads to no policy`);
    }
    this.policies.delete(`${family} ${name}`);
  };
  setStack: PolicyOutput['setStack'] = (family, { name, policies }) => {
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

interface EndpointFacts {
  readonly id: string;
  readonly node: string;
  readonly address: string;
  readonly profiles: readonly string[];
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

const profileName = fc.constantFrom('p1', 'p2', 'p3');
const tag = fc.constantFrom('p1', 'p2', 'extra');
const rule: fc.Arbitrary<PolicyRule> = fc.record(
  {
    action: fc.constantFrom('Allow', 'Deny', 'Pass', 'Log'),
    source: fc.record({ selector: tag.map((name) => `has(${name})`) }, { noNullPrototype: true }),
  },
  { noNullPrototype: true },
);

const change = fc.oneof(
  fc.record({
    kind: fc.constant('profile' as const),
    name: profileName,
    value: fc.option(
      fc.record({ tags: fc.uniqueArray(tag), rules: fc.array(rule, { maxLength: 3 }) }),
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
        interface: fc.constantFrom('cali1', 'cali2', 'cali3'),
        sandbox: fc.option(fc.constantFrom('s1', 's2'), { nil: undefined }),
      }),
      { nil: undefined },
    ),
  }),
);

test('the output depends on the present state alone', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), fc.boolean(), (changes, isReversed) => {
      const lived = newEngine();
      const profiles = new Map<string, Profile>();
      const endpoints = new Map<string, WorkloadEndpoint>();
      for (const one of changes) {
        if (one.kind === 'profile') {
          const made =
            one.value === undefined
              ? undefined
              : profile(one.name, one.value.tags, one.value.rules);
          if (made === undefined) profiles.delete(one.name);
          else profiles.set(one.name, made);
          lived.engine.setProfile(one.name, made);
        } else {
          const { sandbox, ...facts } = one.value ?? {
            sandbox: undefined,
            node: '',
            address: '10.0.0.9',
            profiles: [],
            interface: 'cali9',
          };
          const made =
            one.value === undefined
              ? undefined
              : endpoint({ id: one.id, ...facts, ...(sandbox === undefined ? {} : { sandbox }) });
          if (made === undefined) endpoints.delete(one.id);
          else endpoints.set(one.id, made);
          lived.engine.setEndpoint(one.id, made);
        }
      }
      lived.engine.dropIdle();
      const fresh = newEngine();
      const steps = [
        ...[...profiles].map(
          ([name, value]) =>
            () =>
              fresh.engine.setProfile(name, value),
        ),
        ...[...endpoints].map(
          ([id, value]) =>
            () =>
              fresh.engine.setEndpoint(id, value),
        ),
      ];
      for (const step of isReversed ? steps.toReversed() : steps) step();
      fresh.engine.dropIdle();
      assert.deepEqual(lived.output.state(), fresh.output.state());
    }),
    { numRuns: 300 },
  );
});

test('networks of network sets are members of selectors in use, with inherited labels, until the network set is deleted', () => {
  const { engine, output } = newEngine();
  const source = { selector: "set == 'bad' || has(tagged)" };
  engine.setProfile('p1', profile('p1', [], [{ action: 'Deny', source }]));
  const facts = { id: 'e1', node: 'here', address: '10.0.0.1', interface: 'cali1' };
  engine.setEndpoint('e1', endpoint({ ...facts, profiles: ['p1'] }));
  const set = (labels: Readonly<Record<string, string>>, namespace?: string) => ({
    kind: 'NetworkSet' as const,
    apiVersion: 'projectcalico.org/v3' as const,
    metadata: { name: 's', labels, ...(namespace === undefined ? {} : { namespace }) },
    spec: { nets: ['10.9.0.0/16', 'fd00::/64'] },
  });
  const members = () => [...output.sets.values()].flatMap((one) => [...one]).toSorted();
  const others = members();
  engine.setNetworkSet('NetworkSet shop/s', set({ set: 'bad' }, 'shop'));
  assert.deepEqual(members(), [...others, '10.9.0.0/16', 'fd00::/64'].toSorted());
  engine.setNetworkSet('NetworkSet shop/s', set({ set: 'good' }, 'shop'));
  assert.deepEqual(members(), others);
  engine.setProfile('kns.shop', profile('kns.shop', ['tagged'], []));
  assert.deepEqual(members(), [...others, '10.9.0.0/16', 'fd00::/64'].toSorted());
  engine.setNetworkSet('NetworkSet shop/s', undefined);
  assert.deepEqual(members(), others);
});

test('policies exist only in the address families of their endpoints', () => {
  const { engine, output } = newEngine();
  engine.setProfile('web', profile('web', ['web'], [{ action: 'Allow' }]));
  const families = () =>
    [...output.policies.keys()].flatMap((name) =>
      name.endsWith(' web') ? [name.slice(0, 1)] : [],
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
  assert.deepEqual([...output.stacks.values()], [['p1', 'p2'], ['p2', 'p1'], []]);
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
    const { problem, ingress, egress } = engine.compiled(4, name);
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
