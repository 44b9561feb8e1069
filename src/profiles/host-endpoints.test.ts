import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress, type IpFamily } from '../ip/address.ts';
import type { HostEndpoint } from '../model/kinds/host-endpoint.ts';
import type { HostGuards } from '../ruleset/host-endpoint.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { policyKey, type Policy } from '../ruleset/policy.ts';
import { evaluateStack, type Packet } from './evaluate/evaluate.ts';
import { profilesTier } from './compile/stack.ts';
import { PolicyEngine } from './policy-engine.ts';
import { hostVerdict, type ReferenceStage, type World } from './reference.fixture.ts';
import { setUp, surroundingsOf } from './worlds.setup.fixture.ts';
import { hostWorld, packetOf } from './worlds.fixture.ts';

/** Records host endpoints and policies, by family. */
class Guards {
  readonly guards = new Map<IpFamily, HostGuards>();
  readonly policies = new Map<string, Policy>();
  readonly output: PolicyOutput = {
    setPolicy: (family, policy) => this.policies.set(`${family} ${policyKey(policy.id)}`, policy),
    removePolicy: (family, id) => this.policies.delete(`${family} ${policyKey(id)}`),
    setHostGuards: (family, guards) => this.guards.set(family, guards),
    setStack: () => undefined,
    removeStack: () => undefined,
    addDispatch: () => undefined,
    removeDispatch: () => undefined,
    addSet: () => undefined,
    removeSet: () => undefined,
    addMember: () => undefined,
    removeMember: () => undefined,
  };

  /** What the first interface has, by stage: the names of policies, `held` if it is. */
  text(): string {
    const [one] = this.guards.get(4)?.interfaces ?? [];
    if (one === undefined) return '';
    const { untracked, preDnat, local, forwarded } = one;
    const stages = Object.entries({ untracked, preDnat, local, forwarded }).flatMap(
      ([stage, tiers]) =>
        tiers.length === 0
          ? []
          : [
              `${stage} ${tiers.flatMap(({ ingress }) => ingress.map(({ name }) => name)).join(',')}`,
            ],
    );
    return [...(one.isHeld === true ? ['held'] : []), ...stages].join('; ');
  }
}

function hostEndpoint(spec: HostEndpoint['spec'] = {}, labels = {}): HostEndpoint {
  return {
    kind: 'HostEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'all', labels },
    spec: { node: 'here', interfaceName: '*', ...spec },
  };
}

function engineWith(made = new Guards()) {
  const engine = new PolicyEngine({ node: 'here', families: [4], output: made.output });
  engine.setCoveredInterfaces(new Map([['*', 'all']]));
  return { engine, made };
}

/** Writes what is desired; reports whether more must be written. */
function round(engine: PolicyEngine): boolean {
  engine.beforeRound();
  engine.beforeTables();
  return engine.afterTables();
}

test('a host endpoint does with a packet what the resources say, read naively', () => {
  const counts = new Map<string, number>();
  const stages = ['untracked', 'preDnat', 'local', 'forwarded'] as const;
  const packets = fc.array(fc.tuple(fc.constantFrom('ingress', 'egress'), packetOf('ingress')), {
    minLength: 4,
    maxLength: 4,
  });
  fc.assert(
    fc.property(hostWorld, packets, ({ of, host }, drawn) => {
      const { engine } = engineWith();
      setUp(engine, of);
      engine.setHostEndpoint('all', hostEndpoint({ profiles: [...host.profiles] }, host.labels));
      for (const [way, packet] of drawn) {
        for (const stage of stages) {
          const expected = hostVerdict(of, host, { way, stage, packet });
          counts.set(`${stage} ${expected}`, (counts.get(`${stage} ${expected}`) ?? 0) + 1);
          const actual = verdict(engine, of, { way, stage, packet, profiles: host.profiles });
          assert.equal(actual, expected, `${stage} ${way} ${JSON.stringify(packet)}`);
        }
      }
    }),
    { numRuns: 600 },
  );
  for (const [key, least] of [
    ['untracked allow', 4],
    ['preDnat deny', 2],
    ['local allow', 40],
    ['forwarded deny', 4],
    ['forwarded none', 40],
  ] as const) {
    assert.ok((counts.get(key) ?? 0) > least, `${key}: ${counts.get(key) ?? 0}`);
  }
});

function verdict(
  engine: PolicyEngine,
  _of: World,
  asked: {
    readonly way: 'ingress' | 'egress';
    readonly stage: ReferenceStage;
    readonly packet: Packet;
    readonly profiles: readonly string[];
  },
): 'allow' | 'deny' | 'none' {
  const { way, stage, packet, profiles } = asked;
  const tiers = engine.hostTiersOf('all')[stage];
  const allowed = (names: readonly string[]) => {
    const ofProfiles = names.length === 0 ? [] : [profilesTier(names, 'host')];
    const stack = { name: 'host', tiers: [...tiers, ...ofProfiles] };
    const compiled = (id: Parameters<PolicyEngine['compiled']>[1]) => engine.compiled(4, id);
    return evaluateStack({ stack, compiled }, way, { packet, ...surroundingsOf(engine) }).isAllowed;
  };
  if (stage === 'local') return allowed(profiles) ? 'allow' : 'deny';
  if (allowed([])) return 'allow';
  return allowed(['projectcalico-default-allow']) ? 'none' : 'deny';
}

const gnp = (spec: object) => ({
  metadata: { name: 'p' },
  spec: { selector: 'all()', types: ['Ingress' as const], ...spec },
});
const untracked = { doNotTrack: true, applyOnForward: true };
const preDnat = { preDNAT: true, applyOnForward: true };

test('a policy that moves to another table denies until all tables are written', () => {
  const { engine, made } = engineWith();
  engine.setHostEndpoint('all', hostEndpoint());
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp({ ingress: [{ action: 'Deny' }] }));
  assert.equal(round(engine), false);
  assert.equal(made.text(), 'local p');
  engine.setPolicy(
    'GlobalNetworkPolicy',
    'p',
    gnp({ ...untracked, ingress: [{ action: 'Allow' }] }),
  );
  assert.equal(made.text(), 'held; local p');
  assert.equal(
    made.policies.get('4 gnp/p host')?.ingress[0]?.action,
    'Deny',
    'where it was it stays as it was',
  );
  assert.equal(round(engine), true);
  assert.equal(made.text(), 'held; local p', 'nothing changes while sets and tables are written');
  assert.equal(round(engine), false);
  assert.equal(made.text(), 'untracked p');
  assert.deepEqual([...made.policies.keys()], ['4 gnp/p untracked']);
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp(preDnat));
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp({}));
  assert.equal(made.text(), 'held; untracked p', 'from what is written to what is desired');
  assert.equal(round(engine), true);
  assert.equal(round(engine), false);
  assert.equal(made.text(), 'local p');
  // Within one table nothing is held.
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp({ applyOnForward: true }));
  assert.equal(made.text(), 'local p; forwarded p');
  assert.equal(round(engine), false);
  engine.setHostEndpoint('all', undefined);
  assert.equal(made.text(), '');
  assert.deepEqual([...made.policies], []);
});

test('containers and host endpoints have chains of their own of a policy, and both follow its changes', () => {
  const { engine, made } = engineWith();
  engine.setHostEndpoint('all', hostEndpoint({ profiles: ['projectcalico-default-allow'] }));
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp({ ingress: [{ action: 'Deny' }] }));
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp({ ingress: [{ action: 'Log' }] }));
  assert.equal(made.policies.get('4 gnp/p host')?.ingress[0]?.action, 'Log');
  assert.ok(made.policies.has('4 pro/projectcalico-default-allow host'));
  assert.equal(made.text(), 'local p,projectcalico-default-allow');
  engine.setPolicy('NetworkPolicy', 'shop/p', gnp({}));
  assert.equal(made.text(), 'local p,projectcalico-default-allow', 'it has no namespace');
});

test('host endpoints of other hosts are members of selectors, by the addresses that they expect', () => {
  const { engine } = engineWith();
  engine.setHostEndpoint('all', hostEndpoint());
  const spec = { node: 'there', expectedIPs: ['192.0.2.1', 'none', '192.0.2.1'] };
  engine.setHostEndpoint('there', hostEndpoint(spec, { role: 'db' }));
  const source = { selector: "role == 'db'" };
  engine.setPolicy('GlobalNetworkPolicy', 'p', gnp({ ingress: [{ action: 'Deny', source }] }));
  const { isMember } = surroundingsOf(engine);
  const { selected } = engine.compiled(4, {
    tier: 'default',
    kind: 'GlobalNetworkPolicy',
    name: 'p',
    stage: 'host',
  }).ingress[0]?.source ?? { selected: undefined };
  assert.ok(selected !== undefined);
  assert.ok(isMember(selected, parseAddress('192.0.2.1')));
  engine.setHostEndpoint('there', undefined);
  assert.ok(!isMember(selected, parseAddress('192.0.2.1')));
});
