import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { parseNet } from '../../ip/cidr.ts';
import type { EntryKind } from '../../model/kinds/index.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { policyKey } from '../../ruleset/policy.ts';
import { HostRuleSettings } from '../host-rule-settings.ts';
import { FakeKernel } from '../fake-kernel.fixture.ts';
import { GuardedIpv6Forwarding } from './ipv6-forwarding.ts';
import { Policy } from './policy.ts';
import { StaticRules } from './static-rules.ts';

const statics = { endpointToHostAction: 'Return' } as const;
const silent = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };

function lab() {
  const kernel = new FakeKernel();
  const unreadable = new Map<string, { why: string; text: string; modRevision: bigint }>();
  const mirror = {
    get: () => undefined,
    unreadable: (kind: EntryKind, id: string) => unreadable.get(`${kind} ${id}`),
    allUnreadable: (kind: EntryKind) =>
      new Map(
        [...unreadable].flatMap(([key, value]) =>
          key.startsWith(`${kind} `) ? [[key.slice(kind.length + 1), value] as const] : [],
        ),
      ),
  };
  const policy = new Policy({
    node: 'here',
    families: [4, 6],
    kernel: kernel.kernel,
    mirror,
    hostRules: { change: () => undefined },
  });
  kernel.kernel.rules.start();
  const value: WorkloadEndpoint = {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'e' },
    spec: {
      node: 'here',
      endpoint: 'e',
      interfaceName: 'cali1',
      orchestrator: 'libnetwork',
      ipNetworks: [parseNet('10.0.0.1/32')],
      profiles: ['web'],
    },
  };
  const tell = (now: WorkloadEndpoint | undefined) =>
    policy.onChange({
      kind: 'WorkloadEndpoint',
      id: 'e',
      before: undefined,
      now: now && { id: 'e', value: now, modRevision: 1n },
    });
  const round = async () => {
    for (const phase of ['reading', 'additions', 'tables', 'removals', 'routes'] as const) {
      for (const driver of kernel.all) await driver.apply(phase, AbortSignal.timeout(1000));
      policy.apply(phase);
    }
  };
  return { kernel, policy, value, tell, round, unreadable };
}

test('chains of a policy that no container uses any more are deleted after a minute', async () => {
  mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
  try {
    const { kernel, policy, value, tell, round } = lab();
    tell(value);
    assert.ok(!policy.isPlaced(value));
    await round();
    const chains = kernel.chains.size;
    assert.ok(policy.isPlaced(value));
    const elsewhere = { ...value, spec: { ...value.spec, node: 'there', endpoint: 'other' } };
    assert.ok(!policy.isPlaced(elsewhere));
    mock.timers.setTime(1_070_000);
    assert.equal(policy.poll(), false, 'nothing is idle');
    tell(undefined);
    await round();
    assert.equal(kernel.chains.size, chains, 'one that comes back finds them');
    assert.equal(policy.poll(), true);
    await round();
    assert.ok(kernel.chains.size < chains);
    tell(value);
    await round();
    tell(undefined);
    await round();
    assert.equal(policy.poll(), false, 'it was looked a moment ago');
    mock.timers.setTime(1_130_001);
    assert.equal(policy.poll(), true);
  } finally {
    mock.timers.reset();
  }
});

test('a Profile whose set is out of sync denies everything until it is in sync', async () => {
  const { kernel, policy, value, tell, round } = lab();
  const rules = () =>
    kernel.chains.get([...kernel.chains.keys()].find((key) => /cali-pri-/.test(key)) ?? '');
  policy.onChange({
    kind: 'Profile',
    id: 'web',
    before: undefined,
    now: {
      id: 'web',
      modRevision: 1n,
      value: {
        kind: 'Profile',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'web' },
        spec: {
          labelsToApply: { web: '' },
          ingress: [{ action: 'Deny', source: { selector: 'has(web)' } }, { action: 'Allow' }],
          egress: [],
        },
      },
    },
  });
  kernel.ipset.refuses.add('10.0.0.1/32');
  tell(value);
  await round();
  const closed = rules();
  assert.ok(policy.engine.problems().has('pro/web'));
  assert.ok(closed !== undefined && !closed.includes('"src"'), closed);
  kernel.ipset.refuses.clear();
  for (let tries = 0; policy.engine.problems().has('pro/web'); tries++) {
    assert.ok(tries < 1000, 'it is tried again after a second');
    await pause(10);
    await round();
  }
  await round();
  assert.notEqual(rules(), closed);
});

test('a stored policy that cannot be read denies what it selects, or everything, until it is deleted', async () => {
  const { policy, value, tell, round, unreadable } = lab();
  const labelled = { ...value, metadata: { ...value.metadata, labels: { role: 'db' } } };
  tell(labelled);
  const policies = () =>
    policy.engine
      .stackOf(labelled)
      .tiers.map(({ name, ingress }) => [name, ...ingress.map(policyKey)]);
  const profiles = ['/profiles', 'pro/web'];
  await round();
  assert.deepEqual(policies(), [profiles]);
  let modRevision = 1n;
  for (const [text, isSelected, tier] of [
    [
      { spec: { selector: "role == 'db'", tier: 't', ingress: [{ action: 'Redirect' }] } },
      true,
      't',
    ],
    [{ spec: { selector: "role == 'web'", ingress: 3 } }, false, 'default'],
    [{ spec: { selector: 3 } }, true, 'default'],
    [{ spec: { selector: 'has(', order: 'x' } }, true, 'default'],
    ['no object', true, 'default'],
    [{ spec: { selector: "role == 'db'", preDNAT: true, ingress: 3 } }, false, 'default'],
  ] as const) {
    const stored = { why: 'bad', text: JSON.stringify(text), modRevision: modRevision++ };
    unreadable.set('GlobalNetworkPolicy p', stored);
    // Unreadable now, readable before: the mirror reports it as removed.
    policy.onChange({ kind: 'GlobalNetworkPolicy', id: 'p', before: undefined, now: undefined });
    await round();
    assert.deepEqual(
      policies(),
      isSelected ? [[tier, 'gnp/p'], profiles] : [profiles],
      stored.text,
    );
    if (isSelected) {
      const problem = policy.engine.problems().get('gnp/p');
      assert.match(problem?.problem ?? '', /^GlobalNetworkPolicy p: it is invalid: bad$/);
    }
  }
  // A new one, and one that is deleted, are not reported as changes.
  unreadable.set('GlobalNetworkPolicy q', { why: 'bad', text: '', modRevision });
  await round();
  assert.deepEqual(policies(), [['default', 'gnp/q'], profiles]);
  unreadable.clear();
  await round();
  assert.deepEqual(policies(), [profiles]);
  const stored = { why: 'bad', text: '{"spec": {}}', modRevision };
  unreadable.set('NetworkPolicy shop/p', stored);
  await round();
  assert.deepEqual(policies(), [profiles], 'of another namespace');
});

test('a stored policy that cannot be read keeps its order if that can be read; otherwise it comes first', async () => {
  const { policy, value, tell, round, unreadable } = lab();
  tell(value);
  const spec = { order: 5, ingress: [{ action: 'Deny' as const }] };
  policy.onChange({
    kind: 'GlobalNetworkPolicy',
    id: 'q',
    before: undefined,
    now: {
      id: 'q',
      modRevision: 1n,
      value: {
        kind: 'GlobalNetworkPolicy',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'q' },
        spec,
      },
    },
  });
  let modRevision = 1n;
  for (const [order, names] of [
    [1, 'gnp/p gnp/q'],
    [9, 'gnp/q gnp/p'],
    [undefined, 'gnp/q gnp/p'],
    [null, 'gnp/q gnp/p'],
    ['first', 'gnp/p gnp/q'],
  ] as const) {
    const text = JSON.stringify({ spec: { order, ingress: 3 } });
    unreadable.set('GlobalNetworkPolicy p', { why: 'bad', text, modRevision: modRevision++ });
    await round();
    const [tier] = policy.engine.stackOf(value).tiers;
    assert.equal(tier?.ingress.map(policyKey).join(' '), names, text);
  }
});

test('a policy with new rules whose endpoints change stacks in the same round denies until the sets have changed', async () => {
  const { kernel, policy, value, tell, round } = lab();
  const set = (tier: string, actions: readonly ('Allow' | 'Deny')[]) =>
    policy.onChange({
      kind: 'GlobalNetworkPolicy',
      id: 'p',
      before: undefined,
      now: {
        id: 'p',
        modRevision: 1n,
        value: {
          kind: 'GlobalNetworkPolicy',
          apiVersion: 'projectcalico.org/v3',
          metadata: { name: 'p' },
          spec: { tier, ingress: actions.map((action) => ({ action })), types: ['Ingress'] },
        },
      },
    });
  const chain = () => kernel.chains.get('4 filter cali-pi-gnp/p') ?? '';
  tell(value);
  set('first', ['Deny']);
  await round();
  assert.ok(!policy.isUnfinished);
  assert.match(chain(), /ingress 1/);
  set('first', ['Allow']);
  await round();
  assert.ok(!policy.isUnfinished, 'only the rules changed: that is one step');
  set('second', ['Allow']);
  await round();
  assert.ok(!policy.isUnfinished, 'only the tier changed');
  set('first', ['Deny', 'Allow']);
  const phases: string[] = [];
  for (const phase of ['reading', 'additions', 'tables'] as const) {
    for (const driver of kernel.all) await driver.apply(phase, AbortSignal.timeout(1000));
    policy.apply(phase);
    phases.push(chain());
  }
  assert.match(phases.at(-1) ?? '', /is being replaced/);
  policy.apply('removals');
  assert.ok(policy.isUnfinished);
  await round();
  assert.ok(!policy.isUnfinished);
  assert.match(chain(), /ingress 2/);
});

test('the IPv6 forwarding guard of an earlier run is kept', () => {
  const kernel = new FakeKernel();
  const kept: string[] = [];
  const hostRules = new HostRuleSettings(kernel.kernel.rules, [4, 6], statics);
  const forwarding = (isOwn: boolean) =>
    new GuardedIpv6Forwarding({
      hostRules,
      families: [4, 6],
      ipv6Forwarding: {
        isOwn,
        switchOn: () => undefined,
        keepAdvertisements: (name) => void kept.push(name),
      },
      log: silent,
    });
  const write = () => void kernel.all[1]?.apply('tables', AbortSignal.timeout(1000));
  const guard = '6 filter cali-fwd-guard';
  new StaticRules({ kernel: kernel.kernel, hostRules }).start();
  forwarding(false).start();
  write();
  const usual = [...kernel.chains];
  assert.ok(!kernel.chains.has(guard));
  const ours = forwarding(true);
  ours.start();
  write();
  assert.ok(kernel.chains.delete(guard));
  assert.deepEqual([...kernel.chains], usual, 'everything else stays as it was');
  const link = {
    index: 1,
    name: 'eth1',
    mac: '',
    mtuBytes: 1500,
    isUp: true,
    hasCarrier: true,
    leadsOut: false,
  };
  assert.equal(ours.onEvent({ kind: 'link', link, isGone: false }), false);
  ours.onEvent({ kind: 'link', link, isGone: true });
  assert.deepEqual(kept, ['eth1'], 'an interface that was set up may ignore advertisements');
  ours.onEvent({ kind: 'linkMade', name: 'cali1', hasIpv6: false });
  ours.apply('tables');
});

test('rules that no resource changes are desired from the start, in both families', () => {
  const kernel = new FakeKernel();
  const hostRules = new HostRuleSettings(kernel.kernel.rules, [4, 6], statics);
  new StaticRules({ kernel: kernel.kernel, hostRules }).start();
  void kernel.all[1]?.apply('tables', AbortSignal.timeout(1000));
  for (const family of [4, 6]) {
    for (const hook of ['filter FORWARD', 'filter INPUT', 'raw PREROUTING', 'nat POSTROUTING']) {
      assert.ok(kernel.hooks.has(`${family} ${hook}`), `${family} ${hook}`);
    }
  }
});
