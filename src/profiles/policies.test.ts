import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { isStaged, policyKey } from '../ruleset/policy.ts';
import type { SelectingResource } from './compile/policy-source.ts';
import { evaluateStack, type Packet } from './evaluate/evaluate.ts';
import { PolicyEngine } from './policy-engine.ts';
import { allows, type World } from './reference.fixture.ts';
import { here, packetOf, world } from './worlds.fixture.ts';
import { endpoint, setUp, surroundingsOf } from './worlds.setup.fixture.ts';

const apiVersion = 'projectcalico.org/v3';

const nothing: PolicyOutput = {
  setPolicy: () => undefined,
  removePolicy: () => undefined,
  setStack: () => undefined,
  removeStack: () => undefined,
  addDispatch: () => undefined,
  removeDispatch: () => undefined,
  setHostGuards: () => undefined,
  addSet: () => undefined,
  removeSet: () => undefined,
  addMember: () => undefined,
  removeMember: () => undefined,
};

function newEngine(): PolicyEngine {
  return new PolicyEngine({ node: 'here', families: [4], output: nothing });
}

function verdict(
  engine: PolicyEngine,
  local: WorkloadEndpoint,
  way: 'ingress' | 'egress',
  packet: Packet,
): boolean {
  const judged = {
    stack: engine.stackOf(local),
    compiled: (id: Parameters<PolicyEngine['compiled']>[1]) => engine.compiled(4, id),
  };
  return evaluateStack(judged, way, {
    packet,
    ...surroundingsOf(engine),
  }).isAllowed;
}

test('a packet is allowed exactly if the resources say so, read naively', () => {
  const counts = { allowed: 0, denied: 0, byPolicy: 0 };
  fc.assert(
    fc.property(
      world,
      fc.array(packetOf('ingress'), { minLength: 4, maxLength: 4 }),
      fc.array(packetOf('egress'), { minLength: 4, maxLength: 4 }),
      (of, inbound, outbound) => {
        const engine = newEngine();
        const local = setUp(engine, of);
        const [own] = of.endpoints;
        assert.ok(own !== undefined);
        if (engine.stackOf(local).tiers.length > 1) counts.byPolicy++;
        for (const [way, packets] of [
          ['ingress', inbound],
          ['egress', outbound],
        ] as const) {
          for (const packet of packets) {
            const expected = allows(of, own, way, packet);
            counts[expected ? 'allowed' : 'denied']++;
            assert.equal(
              verdict(engine, local, way, packet),
              expected,
              `${way} ${JSON.stringify(packet)}`,
            );
          }
        }
      },
    ),
    { numRuns: 1500 },
  );
  assert.ok(
    counts.allowed > 2000 && counts.denied > 2000 && counts.byPolicy > 500,
    JSON.stringify(counts),
  );
});

test('staged policies are in the stacks of what they select, and nothing of them reaches the kernel', () => {
  let withStaged = 0;
  fc.assert(
    fc.property(world, (of) => {
      const outputOf = (policies: World['policies']) => {
        const calls: unknown[] = [];
        const record = new Proxy(nothing, {
          get:
            (_, name) =>
            (...args: unknown[]) =>
              calls.push([name, ...args]),
        });
        const engine = new PolicyEngine({ node: 'here', families: [4], output: record });
        const local = setUp(engine, { ...of, policies });
        engine.beforeTables();
        engine.moveEndpoints();
        return { engine, local, calls };
      };
      const isStagedOne = ({ kind }: World['policies'][number]) => kind.startsWith('Staged');
      const all = outputOf(of.policies);
      const enforced = outputOf(of.policies.filter((one) => !isStagedOne(one)));
      assert.equal(JSON.stringify(all.calls), JSON.stringify(enforced.calls));
      const { tiers } = all.engine.stackOf(all.local);
      const ids = tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]);
      const staged = new Set(ids.filter(isStaged).map(policyKey));
      assert.deepEqual(new Set(all.engine.stagedHere().map(policyKey)), staged);
      withStaged += staged.size;
    }),
    { numRuns: 400 },
  );
  assert.ok(withStaged > 10, String(withStaged));
});

test('a staged policy changes the stacks as its action says, without a new place for its endpoints', () => {
  const engine = newEngine();
  const local = endpoint('db', role('db'));
  engine.setEndpoint('libnetwork/db', local);
  const before = engine.stackOf(local).name;
  const stage = (stagedAction?: string) => {
    const spec = { ...denyAll, ...(stagedAction === undefined ? {} : { stagedAction }) };
    engine.setPolicy('StagedGlobalNetworkPolicy', 'p', { metadata: { name: 'p' }, spec });
    assert.equal(engine.stackOf(local).name, before);
    return policyNames(engine, local).map(([, ingress]) => ingress);
  };
  for (const action of [undefined, 'Set', 'Learn', 'Ignore']) {
    assert.deepEqual(stage(action), ['sgnp/p', 'pro/open'], action);
  }
  assert.deepEqual(stage('Delete'), ['pro/open']);
  // Of an enforced policy it is an unknown field, and no reason to ignore it.
  engine.setPolicy('GlobalNetworkPolicy', 'p', {
    metadata: { name: 'p' },
    spec: { ...denyAll, stagedAction: 'Delete' },
  });
  assert.deepEqual(policyNames(engine, local)[0]?.[1], 'gnp/p');
});

const role = (name: string) => ({
  namespace: 'libnetwork',
  addresses: [],
  labels: { role: name },
  profiles: ['open'],
});

const denyAll = { selector: "role == 'db'", ingress: [{ action: 'Deny' as const }] };

function policyNames(engine: PolicyEngine, local: WorkloadEndpoint) {
  return engine
    .stackOf(local)
    .tiers.map(({ name, ingress, egress }) => [
      name,
      ingress.map(policyKey).join(' '),
      egress.map(policyKey).join(' '),
    ]);
}

test('policies are evaluated in the order of tiers, then of policies, then of names', () => {
  const engine = newEngine();
  const local = endpoint('db', role('db'));
  engine.setEndpoint('libnetwork/db', local);
  const tier = (name: string, order?: number) =>
    engine.setTier(name, {
      kind: 'Tier',
      apiVersion,
      metadata: { name },
      spec: order === undefined ? {} : { order },
    });
  const set = (name: string, tierName: string, order?: number, types?: ('Ingress' | 'Egress')[]) =>
    engine.setPolicy('GlobalNetworkPolicy', name, {
      metadata: { name },
      spec: {
        ...denyAll,
        tier: tierName,
        ...(order === undefined ? {} : { order }),
        ...(types === undefined ? {} : { types }),
      },
    });
  tier('default', 100);
  tier('unordered');
  tier('early', 1);
  set('last', 'default');
  set('default.before-last', 'default');
  set('second', 'default', 2, ['Ingress']);
  set('first', 'default', 1, ['Egress']);
  set('of-no-tier', 'absent', 0);
  set('x', 'unordered');
  set('y', 'early', 5);
  set('elsewhere', 'early', 1);
  engine.setPolicy('GlobalNetworkPolicy', 'elsewhere', {
    metadata: { name: 'elsewhere' },
    spec: { tier: 'early', order: 1, selector: "role == 'web'" },
  });
  engine.setPolicy('NetworkPolicy', 'libnetwork/last', {
    metadata: { name: 'last' },
    spec: { selector: 'has(role)' },
  });
  engine.setPolicy('NetworkPolicy', 'shop/last', { metadata: { name: 'last' }, spec: {} });
  assert.deepEqual(policyNames(engine, local), [
    ['early', 'gnp/y', 'gnp/y'],
    [
      'default',
      'gnp/second gnp/default.before-last gnp/last np/libnetwork/last',
      'gnp/first gnp/default.before-last gnp/last np/libnetwork/last',
    ],
    ['unordered', 'gnp/x', 'gnp/x'],
    ['absent', 'gnp/of-no-tier', 'gnp/of-no-tier'],
    ['/profiles', 'pro/open', 'pro/open'],
  ]);
  tier('default', 0);
  assert.deepEqual(policyNames(engine, local)[0]?.[0], 'default');
  // Of equal order: by name. A deleted tier comes last.
  const order = () => policyNames(engine, local).map(([name]) => name);
  tier('unordered', 1);
  assert.deepEqual(order(), ['default', 'early', 'unordered', 'absent', '/profiles']);
  tier('early', 0);
  assert.deepEqual(order(), ['default', 'early', 'unordered', 'absent', '/profiles']);
  engine.setTier('default', undefined);
  assert.deepEqual(order(), ['early', 'unordered', 'absent', 'default', '/profiles']);
});

test('a policy with a field that is not known, or that needs Kubernetes, denies what it selects and says why', () => {
  const local = endpoint('db', { ...role('db'), addresses: [here] });
  const open = { ingress: [{ action: 'Allow' as const }] };
  for (const [spec, why] of [
    [
      { ...open, perhaps: 1 },
      'GlobalNetworkPolicy p: perhaps is no field of a policy that is known',
    ],
    [
      { ...open, selector: "role == 'db'", serviceAccountSelector: '!all()' },
      'GlobalNetworkPolicy p: serviceAccountSelector needs Kubernetes',
    ],
    [{ ...open, serviceAccountSelector: 'all()' }, undefined],
    [{ ...open, serviceAccountSelector: "team == 'a' || has(x)" }, undefined],
    [{ ...open, selector: 'has(' }, /^GlobalNetworkPolicy p: a selector is invalid: /],
    [{ ...open, selector: "role == 'web'", perhaps: 1 }, undefined],
    [{ ...open, selector: ' ', namespaceSelector: '' }, undefined],
    [{ ...open, performanceHints: Array.of('AssumeNeededOnEveryNode') }, undefined],
  ] as const) {
    const engine = newEngine();
    engine.setEndpoint('libnetwork/db', local);
    engine.setPolicy('GlobalNetworkPolicy', 'p', { metadata: { name: 'p' }, spec });
    const problem = engine.problems().get('gnp/p')?.problem;
    if (why instanceof RegExp) assert.match(problem ?? '', why);
    else assert.equal(problem, why, JSON.stringify(spec));
  }
});

test('one change costs the same among ten policies and among ten thousand', () => {
  const cost = (others: number) => {
    const engine = newEngine();
    engine.setTier('default', {
      kind: 'Tier',
      apiVersion,
      metadata: { name: 'default' },
      spec: { order: 100 },
    });
    for (let n = 0; n < others; n++) {
      engine.setPolicy('GlobalNetworkPolicy', `other-${n}`, {
        metadata: { name: `other-${n}` },
        spec: { selector: `role == 'other-${n}'`, ingress: [{ action: 'Deny' }] },
      });
    }
    engine.setEndpoint('libnetwork/db', endpoint('db', role('db')));
    engine.setEndpoint('libnetwork/web', endpoint('web', role('web')));
    const set = (spec: SelectingResource['spec']) =>
      engine.setPolicy('GlobalNetworkPolicy', 'db', { metadata: { name: 'db' }, spec });
    const steps: readonly (() => void)[] = [
      () => set(denyAll),
      () => set({ ...denyAll, order: 5 }),
      () => set({ ...denyAll, ingress: [{ action: 'Allow' }] }),
      () =>
        engine.setTier('default', {
          kind: 'Tier',
          apiVersion,
          metadata: { name: 'default' },
          spec: { order: 7, defaultAction: 'Pass' },
        }),
      () => engine.setEndpoint('libnetwork/web', endpoint('web', role('db'))),
      () => engine.setEndpoint('libnetwork/web', endpoint('web', role('web'))),
      () => engine.setPolicy('GlobalNetworkPolicy', 'db', undefined),
    ];
    return steps.map((step) => {
      const before = { ...engine.work };
      step();
      return Object.entries(engine.work).map(
        ([key, value]) =>
          `${key} ${value - (Object.entries(before).find(([name]) => name === key)?.[1] ?? 0)}`,
      );
    });
  };
  const few = cost(10);
  assert.deepEqual(cost(10_000), few);
  assert.ok(
    few.flat().every((text) => Number(text.split(' ')[1]) <= 4),
    JSON.stringify(few),
  );
});
