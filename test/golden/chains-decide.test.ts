import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress, type IpAddress } from '../../src/ip/address.ts';
import { cidrContains, hostCidr, parseCidr } from '../../src/ip/cidr.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import { selectorId } from '../../src/model/selector/canonical.ts';
import type { Selector } from '../../src/model/selector/ast.ts';
import { parseSelector } from '../../src/model/selector/parse.ts';
import { markBits, type Match, type Rule } from '../../src/render/iptables/rule.ts';
import {
  evaluateStack,
  type Packet,
  type PortNames,
} from '../../src/profiles/evaluate/evaluate.ts';
import { renderPolicy } from '../../src/render/iptables/policy-chains.ts';
import { stackChains } from '../../src/render/iptables/stack-chains.ts';
import { verdictChains } from '../../src/render/iptables/verdict-chains.ts';
import { namedPortSet, selectorSet } from '../../src/ruleset/names.ts';
import { crowdedSet, stackChain, restSet } from '../../src/render/iptables/names.ts';
import { judged } from '../../src/profiles/evaluate/evaluate.fixture.ts';
import { profilePolicy, type Direction } from '../../src/ruleset/policy.ts';
import { dropChains } from '../../src/render/iptables/drop-chains.ts';
import {
  compilePolicy,
  compileProfile,
  namedPortsOf,
} from '../../src/profiles/compile/compiled-policy.ts';

const addresses = ['10.0.0.1', '10.0.1.1', '192.0.2.1'].map(parseAddress);
/** The addresses that each selector matches. */
const members = new Map([
  ['has(a)', [parseAddress('10.0.0.1')]],
  ['has(b)', [parseAddress('10.0.0.1'), parseAddress('10.0.1.1')]],
  ['has(c)', []],
]);

/** The addresses and ports of endpoints with these named ports. */
const places = new Map([
  ['http', ['10.0.0.1 6 80', '10.0.1.1 6 2000', '192.0.2.1 17 80']],
  ['dns', ['10.0.0.1 17 3', '10.0.0.1 6 3']],
]);
const names = [...places.keys(), 'of-nobody'];
const hasNamedPort: PortNames = (name, address, { protocol, port: number }) =>
  places.get(name)?.includes(`${address} ${protocol} ${number}`) ?? false;

const net = fc
  .constantFrom('10.0.0.0/24', '10.0.0.0/16', '192.0.2.1/32', 'fd00::/8')
  .map(parseCidr);
const port = fc.constantFrom<number | string>(1, 80, 443, '80:90', '1000:2000', ...names);
const manyPorts = fc.constant<(number | string)[]>([
  ...Array.from({ length: 20 }, (_, n) => 2 * n + 1),
  '80:90',
]);
const selector = fc.constantFrom('has(a)', 'has(b)', 'has(c)');
const plain = { noNullPrototype: true, requiredKeys: [] as [] } as const;

const netsOnly = {
  nets: fc.array(net, { minLength: 1, maxLength: 3 }),
  notNets: fc.array(net, { minLength: 1, maxLength: 3 }),
  selector,
  notSelector: selector,
};
const withPorts = {
  ...netsOnly,
  ports: fc.oneof(fc.array(port, { minLength: 1, maxLength: 3 }), manyPorts),
  notPorts: fc.array(port, { minLength: 1, maxLength: 2 }),
};
/** These need no protocol. */
const onlyNamed = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 2 });
const action = fc.constantFrom('Allow', 'Deny', 'Pass', 'Log');

const rule: fc.Arbitrary<PolicyRule> = fc.oneof(
  // Of all packets, so that most packets meet several verdicts.
  { weight: 3, arbitrary: fc.record({ action }, { noNullPrototype: true }) },
  fc.record(
    {
      action,
      protocol: fc.constantFrom('TCP', 'UDP'),
      source: fc.record(withPorts, plain),
      destination: fc.record(withPorts, plain),
    },
    { noNullPrototype: true },
  ),
  fc.record(
    {
      action,
      source: fc.record({ ...netsOnly, notPorts: onlyNamed }, plain),
      destination: fc.record({ ports: onlyNamed, notPorts: onlyNamed }, plain),
    },
    { noNullPrototype: true },
  ),
  fc.record(
    {
      action,
      source: fc.record(netsOnly, plain),
      destination: fc.record(netsOnly, plain),
      notProtocol: fc.constantFrom<'TCP' | 'ICMP' | number>('TCP', 'ICMP', 4),
    },
    { noNullPrototype: true, requiredKeys: ['action', 'source', 'destination'] },
  ),
  fc.record(
    {
      action,
      protocol: fc.constant('ICMP' as const),
      icmp: fc.record(
        { type: fc.constantFrom(0, 8), code: fc.constantFrom(0, 1) },
        { noNullPrototype: true, requiredKeys: ['type'] },
      ),
      notICMP: fc.record({ type: fc.constantFrom(0, 8) }, { noNullPrototype: true }),
    },
    { noNullPrototype: true, requiredKeys: ['action', 'protocol'] },
  ),
);

const packet: fc.Arbitrary<Packet> = fc.record(
  {
    source: fc.constantFrom(...addresses),
    destination: fc.constantFrom(...addresses),
    protocol: fc.constantFrom(1, 4, 6, 17, 47),
    sourcePort: fc.constantFrom(1, 80, 85, 1500, 9999),
    destinationPort: fc.constantFrom(1, 3, 39, 80, 443, 2000, 4789, 9999),
    icmpType: fc.constantFrom(0, 8),
    icmpCode: fc.constantFrom(0, 1),
    cameByPublishedPort: fc.boolean(),
  },
  { noNullPrototype: true },
);

const rules = fc.array(rule, { maxLength: 4 });

/** Tiers with policies that apply to both directions, or to one. */
const tiers = fc.array(
  fc.record({
    defaultAction: fc.constantFrom('Deny' as const, 'Pass' as const),
    policies: fc.array(
      fc.record({
        rules,
        directions: fc.constantFrom<readonly Direction[]>(
          ['ingress'],
          ['egress'],
          ['ingress', 'egress'],
        ),
        isBroken: fc.constantFrom(false, false, false, true),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  }),
  { maxLength: 2 },
);

interface GivenPolicy {
  readonly rules: readonly PolicyRule[];
  readonly directions: readonly Direction[];
  readonly isBroken: boolean;
}

interface Given {
  readonly tiers: readonly {
    readonly defaultAction: 'Deny' | 'Pass';
    readonly policies: readonly GivenPolicy[];
  }[];
  readonly profiles: readonly (readonly PolicyRule[])[];
  readonly packet: Packet;
  readonly direction: Direction;
  readonly denyAction: 'drop' | 'reject';
}

/** Returns whether the chains, and the policies of all tiers, allow the packet. */
function verdicts({ tiers: ofTiers, profiles: rulesOfProfiles, ...given }: Given) {
  const { packet: of, direction, denyAction } = given;
  const profiles = rulesOfProfiles.map((ingress, index) =>
    compilePolicy(profilePolicy(`p${index}`), { ingress, egress: ingress }),
  );
  const made = ofTiers.map(({ defaultAction, policies }, tier) => {
    const all = policies.map((policy, index) => {
      const place = { tier: `t${tier}`, kind: 'GlobalNetworkPolicy' } as const;
      return { id: { ...place, name: `t${tier}-${index}` }, ...policy };
    });
    const applying = (one: Direction) =>
      all.flatMap(({ id, directions }) => (directions.includes(one) ? [id] : []));
    const order = { ingress: applying('ingress'), egress: applying('egress') };
    return {
      tier: { name: `t${tier}`, ...order, defaultAction, passLeaves: 'tier' } as const,
      policies: all.map(({ id, rules: ingress, isBroken }) =>
        compilePolicy(id, {
          ingress,
          egress: ingress,
          ...(isBroken ? { problem: 'broken' } : {}),
        }),
      ),
    };
  });
  const policies = made.flatMap((one) => one.policies);
  const all = judged(
    profiles,
    made.map(({ tier }) => tier),
    policies,
  );
  const options = { family: 4, denyAction } as const;
  const chains = new Map(
    [
      ...stackChains(all.stack, direction).map((one) => one.render(options)),
      ...verdictChains(),
      ...dropChains('filter', options),
      ...[...profiles, ...policies].flatMap((one) => renderPolicy(one, options).chains),
    ].map(({ name, rules: ofChain }) => [name, ofChain]),
  );
  const verdict = evaluateStack(all, direction, {
    packet: of,
    isMember: ({ selector }, candidate) => isMember(selector, candidate),
    hasNamedPort,
  });
  const chain = stackChain(direction, all.stack);
  return { ofChains: new Interpreter(chains, of).accepts(chain), ofPolicies: verdict.isAllowed };
}

test('the rendered chains allow and deny every packet as the policies of all tiers do', () => {
  fc.assert(
    fc.property(
      fc.record({
        tiers,
        profiles: fc.array(rules, { maxLength: 2 }),
        packet,
        direction: fc.constantFrom('ingress' as const, 'egress' as const),
        denyAction: fc.constantFrom('drop' as const, 'reject' as const),
      }),
      (given) => {
        const { ofChains, ofPolicies } = verdicts(given);
        assert.equal(ofChains, ofPolicies);
      },
    ),
    { numRuns: 3000 },
  );
});

test('of many policies in a tier the first that decides does so', () => {
  const deciding = fc.record({ at: fc.nat(39), action: fc.constantFrom('Allow', 'Deny', 'Pass') });
  fc.assert(
    fc.property(
      fc.array(deciding, { maxLength: 3 }),
      fc.constantFrom('Deny' as const, 'Pass' as const),
      fc.constantFrom<PolicyRule['action']>('Allow', 'Deny'),
      packet,
      (decisions, defaultAction, ofProfile, of) => {
        const policies = Array.from({ length: 40 }, (_, n): GivenPolicy => {
          const decision = decisions.find(({ at }) => at === n);
          const only = decision === undefined ? [] : [{ action: decision.action }];
          return { rules: only, directions: ['ingress'], isBroken: false };
        });
        const { ofChains, ofPolicies } = verdicts({
          tiers: [{ defaultAction, policies }],
          profiles: [[{ action: ofProfile }]],
          packet: of,
          direction: 'ingress',
          denyAction: 'drop',
        });
        assert.equal(ofChains, ofPolicies);
      },
    ),
  );
});

function isMember(of: Selector, candidate: IpAddress): boolean {
  for (const [text, matching] of members) {
    if (selectorId(parseSelector(text)) === selectorId(of)) return matching.includes(candidate);
  }
  // "selected, but not those"
  if (of.kind === 'and') return of.operands.every((operand) => isMember(operand, candidate));
  if (of.kind === 'not') return !isMember(of.operand, candidate);
  return assert.fail(`unexpected selector ${JSON.stringify(of)}`);
}

/** Evaluates chains as the kernel does, for the first packet of a connection. */
class Interpreter {
  readonly #chains: ReadonlyMap<string, readonly Rule[]>;
  readonly #packet: Packet;
  #mark = 0;

  constructor(chains: ReadonlyMap<string, readonly Rule[]>, of: Packet) {
    this.#chains = chains;
    this.#packet = of;
  }

  /** Reports whether the packet leaves the chain with the accept mark. */
  accepts(chain: string): boolean {
    return this.#walk(chain) === 'returned' && (this.#mark & markBits.accept) !== 0;
  }

  #walk(name: string): 'returned' | 'dropped' {
    for (const { matches, action } of this.#chains.get(name) ?? assert.fail(`no chain ${name}`)) {
      if (!matches.every((match) => this.#holds(match))) continue;
      if (action.kind === 'drop' || action.kind === 'reject') return 'dropped';
      if (action.kind === 'return') return 'returned';
      if (action.kind === 'setMark') this.#mark |= action.bits;
      if (action.kind === 'clearMark') this.#mark &= ~action.bits;
      if (action.kind === 'goto') return this.#walk(action.chain);
      if (action.kind === 'jump' && this.#walk(action.chain) === 'dropped') return 'dropped';
    }
    return 'returned';
  }

  #holds(match: Match): boolean {
    const of = this.#packet;
    const isNegated = 'negated' in match && match.negated;
    const inRanges = (
      ports: readonly { readonly first: number; readonly last: number }[],
      port: number,
    ) => ports.some(({ first, last }) => first <= port && port <= last);
    const holds = (): boolean => {
      switch (match.kind) {
        case 'protocol':
          return match.protocol === of.protocol;
        case 'sourceNet':
          return cidrContains(match.net, of.source);
        case 'destinationNet':
          return cidrContains(match.net, of.destination);
        case 'sourceSet':
          return inSet(match.set, of.source);
        case 'destinationSet':
          return inSet(match.set, of.destination);
        case 'sourcePortSet':
          return inPortSet(match.set, of.source, of, of.sourcePort);
        case 'destinationPortSet':
          return inPortSet(match.set, of.destination, of, of.destinationPort);
        case 'sourcePorts':
          return inRanges(match.ports, of.sourcePort);
        case 'destinationPorts':
          return inRanges(match.ports, of.destinationPort);
        case 'sourcePort':
          return of.sourcePort === match.port;
        case 'destinationPort':
          return of.destinationPort === match.port;
        case 'icmp':
          return (
            of.icmpType === match.type && (match.code === undefined || of.icmpCode === match.code)
          );
        case 'connectionState':
          return match.states.includes('NEW');
        case 'connectionMarkSet':
          return of.cameByPublishedPort === true;
        case 'markSet':
          return (this.#mark & match.bits) === match.bits;
        case 'markClear':
          return (this.#mark & match.bits) === 0;
        default:
          // Counting sets: membership has no effect.
          return false;
      }
    };
    return holds() !== isNegated;
  }
}

/** The sets of all selectors that the rules above can use; counting sets have no effect. */
function inSet(name: string, candidate: IpAddress): boolean {
  if (name === crowdedSet(4) || name === restSet(4)) return false;
  const texts = [...members.keys()];
  const combined = texts.flatMap((a) => texts.map((b) => `${a} && !${b}`));
  for (const text of [...texts, ...combined]) {
    const parsed = parseSelector(text);
    if (selectorSet(4, selectorId(parsed)) === name) return isMember(parsed, candidate);
  }
  return assert.fail(`unknown set ${name} for ${hostCidr(candidate)}`);
}

/** By the sets' names. */
const namesOfSets = new Map(
  namedPortsOf(
    compileProfile('names', {
      kind: 'Profile',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'names' },
      spec: { ingress: [{ action: 'Allow', destination: { ports: names } }] },
    }),
  ).map(({ id, name }) => [namedPortSet(4, id), name]),
);

function inPortSet(set: string, address: IpAddress, { protocol }: Packet, port: number): boolean {
  return hasNamedPort(namesOfSets.get(set) ?? assert.fail(set), address, { protocol, port });
}
