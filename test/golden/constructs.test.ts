import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { parseAddress, type IpFamily } from '../../src/ip/address.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import { HostPortChains } from '../../src/render/iptables/host-port-chains.ts';
import { IptablesPolicies, type ChainOutput } from '../../src/render/iptables/policies.ts';
import { countingSets, dropChains } from '../../src/render/iptables/drop-chains.ts';
import { renderHostRules } from '../../src/render/iptables/host-rules.ts';
import { renderHostGuards } from '../../src/render/iptables/host-guards.ts';
import { renderPolicyRule } from '../../src/render/iptables/policy-rule.ts';
import type { Chain, Rule } from '../../src/render/iptables/rule.ts';
import { renderRule } from '../../src/render/iptables/rule-text.ts';
import { dropReasons, type DenyAction } from '../../src/ruleset/drop-reasons.ts';
import {
  anyInterface,
  guardedStages,
  type GuardedInterface,
  type HostGuards,
} from '../../src/ruleset/host-endpoint.ts';
import { hostRules, type HostRules } from '../../src/ruleset/host-rules.ts';
import { judging, stackRules } from '../../src/ruleset/judging.ts';
import {
  blockNames,
  hookPurposes,
  type HookPurpose,
  type HostRule,
} from '../../src/ruleset/statement.ts';
import {
  directions,
  profilePolicy,
  type Direction,
  type Dispatch,
  type HostStage,
  type PacketEnd,
  type PacketRule,
  type Policy,
  type PolicyId,
  type Stack,
  type StackTier,
} from '../../src/ruleset/policy.ts';
import { profilesTier, stackOf } from '../../src/profiles/compile/stack.ts';
import type { PublishedPort } from '../../src/ruleset/published-port.ts';
import { golden } from './golden.ts';

/**
 * Each construct of the ruleset alone, as each renderer renders it: a file for each construct, with a section for each
 * renderer.
 */
const renderers = {
  iptables: {
    rule: iptablesRule,
    policies: iptablesPolicies,
    ports: iptablesPorts,
    host: iptablesHost,
    reasons: iptablesReasons,
    guards: iptablesGuards,
  },
} as const;

const anyEnd: PacketEnd = {
  nets: [],
  notNets: [],
  ports: [],
  notPorts: [],
  namedPorts: [],
  notNamedPorts: [],
  selected: undefined,
  notSelected: undefined,
};
const anyPacket: PacketRule = {
  name: { policy: profilePolicy('web'), direction: 'ingress', index: 1 },
  content: 'its content',
  action: 'Allow',
  ipVersion: undefined,
  protocol: undefined,
  notProtocol: undefined,
  icmp: undefined,
  notIcmp: undefined,
  source: anyEnd,
  destination: anyEnd,
};
const tcp: PacketRule = { ...anyPacket, protocol: 6 };
const nets = ['10.0.0.0/8', '192.0.2.0/24', 'fd00::/8'].map(parseCidr);
const port = (first: number, last = first) => ({ first, last });
const named = (name: string) => ({ id: `n:${name}`, name });
const odd = Array.from({ length: 16 }, (_, n) => port(2 * n + 1));
const from = (end: Partial<PacketEnd>, rule = anyPacket) => ({
  ...rule,
  source: { ...anyEnd, ...end },
});
const to = (end: Partial<PacketEnd>, rule = tcp) => ({
  ...rule,
  destination: { ...anyEnd, ...end },
});

const rules: Readonly<Record<string, PacketRule>> = {
  allow: anyPacket,
  deny: { ...anyPacket, action: 'Deny' },
  pass: { ...anyPacket, action: 'Pass' },
  log: { ...anyPacket, action: 'Log' },
  protocol: { ...anyPacket, notProtocol: 47 },
  icmp: { ...anyPacket, protocol: 1, icmp: { type: 3, code: 4 }, notIcmp: { type: 8 } },
  'of-one-family': { ...anyPacket, ipVersion: 6 },
  net: from({ nets: nets.slice(1) }),
  nets: from({ nets }),
  'not-nets': from({ notNets: nets }),
  'nets-but-not-all': from({ nets, notNets: [parseCidr('10.1.0.0/16')] }),
  ports: to({ ports: [port(80), port(8000, 8010)] }),
  'many-ports': to({ ports: odd }),
  'not-ports': to({ notPorts: [port(22)] }),
  'not-many-ports': to({ notPorts: odd }),
  'nets-and-many-ports': to({ nets, ports: odd }),
  'named-port': to({ namedPorts: [named('http')] }, anyPacket),
  'named-and-numbered-ports': to({ ports: [port(80)], namedPorts: [named('http'), named('dns')] }),
  'not-named-ports': from({ notNamedPorts: [named('http'), named('dns')] }),
  selected: from({ selected: { id: 's:first' } }),
  'not-selected': to({ notSelected: { id: 's:second' } }, anyPacket),
  'deny-of-two-ends': { ...to({ ports: odd }, from({ nets }, tcp)), action: 'Deny' },
};

for (const [name, rule] of Object.entries(rules)) {
  test(`a rule in each renderer: ${name}`, () => {
    golden(
      `construct-rule-${name}`,
      page(rule, (renderer) => renderer.rule(rule)),
    );
  });
}

const web: Policy = {
  id: profilePolicy('web'),
  ingress: [anyPacket],
  egress: [],
  problem: undefined,
};
const broken: Policy = {
  id: profilePolicy('gone'),
  ingress: [],
  egress: [],
  problem: 'it does not exist',
};
const stack = stackOf([], ['web', 'gone']);
const dispatch: Dispatch = {
  family: 4,
  address: parseCidr('10.65.0.1/32'),
  interface: 'cali1',
  stack: stack.name,
};

test('a stack of policies, and the dispatch of an endpoint to it, in each renderer', () => {
  const said = { policies: [web, broken], stack, dispatch };
  const byDirection = (rules: (direction: Direction) => readonly HostRule[]) =>
    Object.fromEntries(directions.map((direction) => [direction, rules(direction)]));
  golden(
    'construct-dispatch',
    page(
      {
        ...said,
        judging: byDirection(judging),
        stackRules: byDirection((direction) => stackRules(stack, direction)),
      },
      (renderer) => renderer.policies(said),
    ),
  );
});

test('tiers of policies before the Profiles, in each renderer', () => {
  const id = (tier: string, name: string): PolicyId => ({
    tier,
    kind: 'GlobalNetworkPolicy',
    name,
  });
  const shop = {
    tier: 'default',
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name: 'a-name-too-long-for-a-chain',
  } as const;
  const rule = (policy: PolicyId, action: PacketRule['action'], index = 1): PacketRule => ({
    ...anyPacket,
    name: { policy, direction: 'ingress', index },
    action,
  });
  const guard = id('security', 'guard');
  const out = id('security', 'out');
  const policies: readonly Policy[] = [
    { id: guard, ingress: [rule(guard, 'Pass')], egress: [], problem: undefined },
    { id: out, ingress: [], egress: [], problem: undefined },
    { id: shop, ingress: [rule(shop, 'Allow')], egress: [], problem: undefined },
    web,
  ];
  const tiers: readonly StackTier[] = [
    {
      name: 'security',
      ingress: [guard],
      egress: [guard, out],
      defaultAction: 'Pass',
      passLeaves: 'tier',
    },
    { name: 'default', ingress: [shop], egress: [], defaultAction: 'Deny', passLeaves: 'tier' },
  ];
  const of = stackOf(tiers, ['web']);
  golden(
    'construct-tiers',
    page({ policies, stack: of }, (renderer) => renderer.policies({ policies, stack: of })),
  );
});

test('a stack without policies', () => {
  const rules = stackRules(stackOf([], []), 'ingress');
  golden(
    'construct-quarantine',
    page(rules, (renderer) => renderer.policies({ policies: [], stack: stackOf([], []) })),
  );
});

const families = [4, 6] as const;
const options = { endpointToHostAction: 'Return', guardsForwarding: true } as const;
const withVxlan = { ...options, vxlan: { port: 4789, vni: 200 } } as const;

for (const purpose of hookPurposes) {
  if (hostRules(4, options).hooks[purpose] === undefined) continue;
  test(`the rules of the host in each renderer: hook ${purpose}`, () => {
    ofHost(`hook-${purpose}`, (family) => ({
      hooks: { [purpose]: hostRules(family, options).hooks[purpose] ?? [] },
      blocks: {},
    }));
  });
}

for (const block of blockNames) {
  if (hostRules(4, options).blocks[block] === undefined) continue;
  test(`the rules of the host in each renderer: block ${block}`, () => {
    ofHost(`block-${block}`, (family) => ({
      hooks: {},
      blocks: { [block]: hostRules(family, options).blocks[block] ?? [] },
    }));
  });
}

for (const endpointToHostAction of ['Accept', 'Drop'] as const) {
  test(`allowed traffic from a container to its host: ${endpointToHostAction}`, () => {
    ofHost(`block-workloadToHost-${endpointToHostAction}`, (family) => {
      const { blocks } = hostRules(family, { ...options, endpointToHostAction });
      return { hooks: {}, blocks: { workloadToHost: blocks.workloadToHost?.slice(-1) ?? [] } };
    });
  });
}

test('VXLAN packets: those to this host, and those that it forwards', () => {
  ofHost('vxlan', (family) => {
    const { hooks, blocks } = hostRules(family, withVxlan);
    const { vxlanToHost, forwardedVxlan } = blocks;
    const isOfVxlan = ({ name }: HostRule) => name.startsWith('VXLAN');
    return {
      hooks: Object.fromEntries(
        Object.entries(hooks)
          .map(([purpose, rules]) => [purpose, rules.filter(isOfVxlan)] as const)
          .filter(([, rules]) => rules.length > 0),
      ),
      blocks: {
        vxlanToHost: vxlanToHost ?? assert.fail(),
        forwardedVxlan: forwardedVxlan ?? assert.fail(),
      },
    };
  });
});

test('IP-in-IP packets: those to this host, and those that it forwards', () => {
  ofHost('ipip', (family) => {
    const { hooks } = hostRules(family, { ...options, ipip: true });
    return {
      hooks: {
        toHost: hooks.toHost?.slice(0, 2) ?? [],
        firstForward: hooks.firstForward?.slice(0, 1) ?? [],
      },
      blocks: {},
    };
  });
});

test('host endpoints: the hooks that they need, and the chains of each interface', () => {
  const id = (name: string, stage: HostStage): PolicyId => ({
    tier: 'default',
    kind: 'GlobalNetworkPolicy',
    name,
    stage,
  });
  const tier = (ingress: readonly PolicyId[], egress = ingress): StackTier => ({
    name: 'default',
    ingress,
    egress,
    defaultAction: 'Deny',
    passLeaves: 'tier',
  });
  const passing = (of: StackTier): StackTier => ({ ...of, defaultAction: 'Pass' });
  const named: GuardedInterface = {
    interface: 'eth0',
    untracked: [passing(tier([id('fast', 'untracked')]))],
    preDnat: [passing(tier([id('before', 'preDnat')], []))],
    local: [tier([id('web', 'host')]), profilesTier(['open'], 'host')],
    forwarded: [tier([id('web', 'host')], [])],
  };
  const others: GuardedInterface = {
    interface: anyInterface,
    untracked: [],
    preDnat: [],
    local: [],
    forwarded: [],
  };
  const guards: HostGuards = {
    interfaces: [named, { ...named, interface: 'eth1', isHeld: true }, others],
    failsafes: {
      inbound: [{ protocol: 6, port: 22 }],
      outbound: [{ protocol: 17, port: 53, net: parseCidr('192.0.2.53/32') }],
    },
  };
  const hostEndpoints = guardedStages(guards);
  ofHost('host-endpoint-hooks', (family) => {
    const before = hostRules(family, withVxlan).hooks;
    const now = hostRules(family, { ...withVxlan, hostEndpoints }).hooks;
    const hooks: Partial<Record<HookPurpose, readonly HostRule[]>> = {};
    for (const purpose of hookPurposes) {
      const isNew = ({ name }: HostRule) => !before[purpose]?.some((one) => one.name === name);
      hooks[purpose] = now[purpose]?.filter(isNew) ?? [];
    }
    return { hooks, blocks: {} };
  });
  golden(
    'construct-host-endpoints',
    page(guards, (renderer) => families.map((family) => renderer.guards(guards, family)).join('')),
  );
});

test('drop counters by reason, in each renderer', () => {
  golden(
    'construct-drop-reasons',
    page(dropReasons, (renderer) => renderer.reasons()),
  );
});

test('denied packets are rejected, in each renderer', () => {
  const denial: PacketRule = { ...anyPacket, action: 'Deny' };
  const policy: Policy = {
    id: profilePolicy('web'),
    ingress: [denial],
    egress: [],
    problem: undefined,
  };
  golden(
    'construct-reject',
    page({ denyAction: 'reject' }, (renderer) =>
      [
        renderer.rule(denial, 'reject'),
        renderer.policies({ policies: [policy], stack, denyAction: 'reject' }),
        renderer.reasons('reject'),
      ].join(''),
    ),
  );
});

test('the names of the host rules are unique in their hook or block', () => {
  for (const family of families) {
    const { hooks, blocks } = hostRules(family, withVxlan);
    const stacks = directions.flatMap((direction) => [
      judging(direction),
      stackRules(stack, direction),
    ]);
    for (const rules of [...Object.values(hooks), ...Object.values(blocks), ...stacks]) {
      const names = rules.map(({ name }) => name);
      assert.deepEqual([...new Set(names)], names);
    }
  }
});

/** Prints common lines of IPv4 and IPv6 once. */
function ofHost(name: string, rulesOf: (family: IpFamily) => HostRules): void {
  const texts = families.map((family) => stringify(saidOf(rulesOf(family))));
  const said = texts[0] === texts[1] ? rulesOf(4) : { IPv4: rulesOf(4), IPv6: rulesOf(6) };
  golden(
    `construct-${name}`,
    page(said, (renderer) =>
      families.map((family) => renderer.host(rulesOf(family), family)).join(''),
    ),
  );
}

test('a published port in each renderer', () => {
  const said: PublishedPort = {
    protocol: 'TCP',
    hostIp: parseAddress('192.0.2.1'),
    hostPort: 8080,
    address: parseAddress('10.65.0.1'),
    port: 80,
    isAdmitted: false,
  };
  golden(
    'construct-published-port',
    page(said, (renderer) => renderer.ports(said)),
  );
});

/** Returns the construct, followed by a section for each renderer. */
function page(
  construct: object,
  render: (renderer: (typeof renderers)[keyof typeof renderers]) => string,
): string {
  const parts = Object.entries(renderers).map(([name, renderer]) => `${name}\n${render(renderer)}`);
  return [stringify(saidOf(construct)), ...parts].join('\n');
}

/** Returns a construct without its empty fields. */
function saidOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(saidOf);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).map(([key, member]) => [key, saidOf(member)] as const);
  return Object.fromEntries(members.filter(([, member]) => !isEmpty(member)));
}

function isEmpty(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return value === undefined;
  return Object.keys(value).length === 0;
}

function ruleLines(of: readonly Rule[]): string {
  return of.map((rule) => `        ${renderRule(rule)}\n`).join('');
}

function chainLines(chains: ReadonlyMap<string, readonly Rule[]>): string {
  return [...chains]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, of]) => `    ${name}\n${ruleLines(of)}`)
    .join('');
}

function iptablesRule(rule: PacketRule, denyAction: DenyAction = 'drop'): string {
  return ([4, 6] as const)
    .map((family) => {
      const { rules: lines, dropsSet } = renderPolicyRule(
        rule,
        { family, denyAction },
        'cali-pri-web',
      );
      const counter = dropsSet === undefined ? '' : `        counted in ${dropsSet}\n`;
      return `    IPv${family}\n${ruleLines(lines)}${counter}`;
    })
    .join('');
}

function iptablesPolicies(said: {
  readonly policies: readonly Policy[];
  readonly stack: Stack;
  readonly dispatch?: Dispatch;
  readonly denyAction?: DenyAction;
}): string {
  const chains = new Map<string, readonly Rule[]>();
  const members: string[] = [];
  const output: ChainOutput = {
    setChain: (_, { name, rules: of }: Chain) => chains.set(name, of),
    removeChain: (_, name) => chains.delete(name),
    addSet: () => undefined,
    removeSet: () => undefined,
    addMember: (set, member) => members.push(`    set ${set}: ${member}\n`),
    removeMember: () => undefined,
  };
  const made = new IptablesPolicies([4], output, said.denyAction);
  made.start();
  const before = members.length;
  for (const policy of said.policies) made.setPolicy(4, policy);
  made.setStack(4, said.stack);
  if (said.dispatch !== undefined) made.addDispatch(said.dispatch);
  return chainLines(chains) + members.slice(before).join('');
}

function iptablesPorts(said: PublishedPort): string {
  const chains = new Map<string, readonly Rule[]>();
  const made = new HostPortChains({
    setChain: ({ name, rules: of }) => chains.set(name, of),
    removeChain: (name) => chains.delete(name),
  });
  made.start();
  made.change([], [said]);
  return chainLines(chains);
}

function iptablesHost(rules: HostRules, family: IpFamily): string {
  return renderHostRules(rules, { family, denyAction: 'drop' })
    .flatMap(({ table, chains, hooks }) => [
      ...hooks.flatMap(({ chain, inserted, appended }) => [
        ...(inserted.length === 0 ? [] : [`    ${table} ${chain}, first\n${ruleLines(inserted)}`]),
        ...(appended.length === 0 ? [] : [`    ${table} ${chain}, last\n${ruleLines(appended)}`]),
      ]),
      ...chains
        .filter(({ name }) => !name.startsWith('cali-drop-'))
        .map(({ name, rules: of, ifRefused }) => {
          const substitute =
            ifRefused === undefined ? '' : `      if refused\n${ruleLines(ifRefused.rules)}`;
          return `    ${table} ${name}\n${ruleLines(of)}${substitute}`;
        }),
    ])
    .join('')
    .replace(/^/, `  IPv${family}\n`);
}

function iptablesGuards(guards: HostGuards, family: IpFamily): string {
  const chains = renderHostGuards(guards, { family, denyAction: 'reject' }).map(
    ({ table, chain: { name, rules: of } }) => `    ${table} ${name}\n${ruleLines(of)}`,
  );
  return `  IPv${family}\n${chains.join('')}`;
}

function iptablesReasons(denyAction: DenyAction = 'drop'): string {
  const chains = (['raw', 'filter'] as const).flatMap((table) =>
    dropChains(table, { family: 4, denyAction }).map(
      ({ name, rules: of }) => `    ${table} ${name}\n${ruleLines(of)}`,
    ),
  );
  const sets = countingSets(4).map(({ name, maxElements }) =>
    maxElements === undefined ? `    set ${name}\n` : `    set ${name}, at most ${maxElements}\n`,
  );
  return [...chains, ...sets].join('');
}
