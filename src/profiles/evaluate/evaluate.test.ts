import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { parseAddress } from '../../ip/address.ts';
import { parseNet } from '../../ip/cidr.ts';
import type { EntityRule, PolicyRule } from '../../model/policy-rule.ts';
import { compileProfile } from '../compile/compiled-policy.ts';
import { profilePolicy, type StackTier } from '../../ruleset/policy.ts';
import { judged } from './evaluate.fixture.ts';
import { evaluateStack, type Packet } from './evaluate.ts';

test('a missing Profile denies, and the verdict names it', () => {
  const verdict = evaluateStack(judged([compileProfile('gone', undefined)]), 'ingress', {
    packet: {
      source: parseAddress('10.0.0.1'),
      destination: parseAddress('10.0.1.1'),
      protocol: 6,
      sourcePort: 1,
      destinationPort: 80,
    },
    isMember: () => false,
    hasNamedPort: () => false,
  });
  assert.deepEqual(verdict, { isAllowed: false, policy: profilePolicy('gone') });
});

test('an ICMP code without a type does not match every type: the Profile denies', () => {
  const { problem } = compileProfile('p', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { ingress: [{ action: 'Allow', protocol: 'ICMP', icmp: { code: 4 } }] },
  });
  assert.equal(problem, 'Profile p: ingress rule 1: an icmp code needs its type');
});

test('a verdict names the deciding rule; Log and Pass do not decide', () => {
  const profile = (name: string, ...actions: readonly ('Allow' | 'Deny' | 'Pass' | 'Log')[]) =>
    compileProfile(name, {
      kind: 'Profile',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name },
      spec: { egress: actions.map((action) => ({ action })) },
    });
  const packet = {
    source: parseAddress('10.0.0.1'),
    destination: parseAddress('10.0.1.1'),
    protocol: 6,
    sourcePort: 1,
    destinationPort: 80,
  };
  const profiles = [profile('first', 'Log', 'Pass', 'Deny'), profile('second', 'Log', 'Allow')];
  const of = { packet, isMember: () => false, hasNamedPort: () => false };
  assert.deepEqual(evaluateStack(judged(profiles), 'egress', of), {
    isAllowed: true,
    policy: profilePolicy('second'),
    rule: { policy: profilePolicy('second'), direction: 'egress', index: 2 },
  });
  assert.deepEqual(evaluateStack(judged(profiles), 'ingress', of), { isAllowed: false });
});

test('packets that only hosts may send are denied from an endpoint, whatever its policies, and allowed to it', () => {
  const open = compileProfile('open', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'open' },
    spec: { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] },
  });
  const verdict = (direction: 'ingress' | 'egress', protocol: number, destinationPort: number) =>
    evaluateStack(judged([open]), direction, {
      packet: {
        source: parseAddress('10.0.0.1'),
        destination: parseAddress('10.0.1.1'),
        protocol,
        sourcePort: 1,
        destinationPort,
      },
      isMember: () => false,
      hasNamedPort: () => false,
    }).isAllowed;
  const [ipip, tcp, udp, vxlan] = [4, 6, 17, 4789];
  assert.deepEqual([verdict('egress', udp, vxlan), verdict('egress', ipip, 0)], [false, false]);
  assert.deepEqual([verdict('egress', udp, 53), verdict('egress', tcp, vxlan)], [true, true]);
  assert.deepEqual([verdict('ingress', udp, vxlan), verdict('ingress', ipip, 0)], [true, true]);
});

const webPort = { name: 'web', protocol: 6, port: 8080 };

/** Reports whether a rule of a Profile that allows matches a packet with a member of `has(db)` at the source. */
function isMatched(rule: Partial<PolicyRule>, changed: Partial<Packet> = {}): boolean {
  const compiled = compileProfile('p', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { ingress: [{ action: 'Allow', ...rule }] },
  });
  assert.equal(compiled.problem, undefined);
  const packet = {
    source: parseAddress('10.0.0.1'),
    destination: parseAddress('10.0.1.1'),
    protocol: 6,
    sourcePort: 1000,
    destinationPort: 8080,
    ...changed,
  };
  return evaluateStack(judged([compiled]), 'ingress', {
    packet,
    isMember: (_, address) => address === parseAddress('10.0.0.1'),
    hasNamedPort: (name, address, { protocol, port }) =>
      address === packet.destination && isDeepStrictEqual({ name, protocol, port }, webPort),
  }).isAllowed;
}

const [tcp, udp, icmp, icmpv6] = [6, 17, 1, 58];
const ping = { protocol: icmp, icmpType: 8, icmpCode: 0 };
const unreachable = { protocol: icmp, icmpType: 3, icmpCode: 4 };
const six = { source: parseAddress('fd00::1'), destination: parseAddress('fd00::2') };
const nets = (...texts: readonly string[]) => texts.map(parseNet);
const ofTcp = (source: EntityRule, destination: EntityRule = {}) =>
  ({ protocol: 'TCP', source, destination }) as const;

// Each rule with packets that it matches and packets that it does not match.
for (const [rule, matched, unmatched] of [
  [{}, [{}, six, ping], []],
  [{ ipVersion: 4 }, [{}], [six]],
  [{ ipVersion: 6 }, [six], [{}]],
  [{ protocol: 'TCP' }, [{}, six], [ping, { protocol: udp }]],
  [{ protocol: 50 }, [{ protocol: 50 }], [{}]],
  [{ notProtocol: 'TCP' }, [ping], [{}]],
  // Each version of ICMP exists in one address family.
  [{ protocol: 'ICMP' }, [ping], [{}, { ...six, protocol: icmp }, { protocol: icmpv6 }]],
  [{ protocol: 'ICMPv6' }, [{ ...six, protocol: icmpv6 }], [six, { protocol: icmpv6 }]],
  [{ protocol: 'ICMP', icmp: {} }, [ping, unreachable], [{}]],
  [{ protocol: 'ICMP', icmp: { type: 3 } }, [unreachable], [ping]],
  [
    { protocol: 'ICMP', icmp: { type: 3, code: 4 } },
    [unreachable],
    [ping, { ...unreachable, icmpCode: 1 }, { ...unreachable, icmpType: 11 }],
  ],
  [
    { protocol: 'ICMP', notICMP: { type: 3 } },
    [ping],
    [unreachable, { ...unreachable, icmpCode: 1 }],
  ],
  [{ protocol: 'ICMP', notICMP: {} }, [ping], []],
  [
    { protocol: 'ICMP', notICMP: { type: 3, code: 4 } },
    [ping, { ...unreachable, icmpCode: 1 }],
    [unreachable],
  ],
  [
    { source: { nets: nets('10.0.0.0/24', 'fd00::1/128') } },
    [{}, six],
    [{ source: parseAddress('10.0.1.1') }],
  ],
  [{ source: { nets: nets('fd00::/64') } }, [six], [{}]],
  [
    { destination: { nets: nets('10.0.1.0/24') } },
    [{}],
    [six, { destination: parseAddress('10.0.0.1') }],
  ],
  [
    { source: { notNets: nets('10.0.0.0/24', '10.9.0.0/16') } },
    [six, { source: parseAddress('10.0.1.1') }],
    [{}],
  ],
  [ofTcp({ ports: [1000] }), [{}], [{ sourcePort: 1001 }, { protocol: udp }]],
  [
    ofTcp({}, { ports: ['80:90', 8080] }),
    [{}, { destinationPort: 80 }, { destinationPort: 90 }],
    [{ destinationPort: 79 }, { destinationPort: 91 }],
  ],
  [
    ofTcp({ notPorts: ['1:999', 1000] }),
    [{ sourcePort: 1001 }],
    [{}, { sourcePort: 1 }, { sourcePort: 999 }],
  ],
  [ofTcp({}, { ports: ['web'] }), [{}], [{ destinationPort: 80 }]],
  [{ destination: { ports: ['web'] } }, [{}], [{ protocol: udp }]],
  [ofTcp({}, { ports: ['web', 90] }), [{}, { destinationPort: 90 }], [{ destinationPort: 80 }]],
  [ofTcp({ ports: ['web'] }), [], [{}, { sourcePort: 8080 }]],
  [ofTcp({}, { notPorts: ['web'] }), [{ destinationPort: 80 }], [{}]],
  [{ source: { selector: 'has(db)' } }, [{}], [six]],
  [{ source: { notSelector: 'has(db)' } }, [six], [{}]],
  [{ source: { selector: ' ', notSelector: ' ' } }, [{}, six], []],
  [{ destination: { selector: 'has(db)' } }, [{ destination: parseAddress('10.0.0.1') }], [{}]],
  // All criteria must match.
  [
    {
      protocol: tcp,
      source: { selector: 'has(db)', ports: [1000] },
      destination: { notPorts: [22] },
    },
    [{}],
    [{ source: parseAddress('10.0.0.2') }, { sourcePort: 1 }, { destinationPort: 22 }],
  ],
] as const satisfies readonly (readonly [
  Partial<PolicyRule>,
  readonly Partial<Packet>[],
  readonly Partial<Packet>[],
])[]) {
  test(`a rule with ${JSON.stringify(rule)} matches the packets it describes, and no others`, () => {
    const verdicts = (packets: readonly Partial<Packet>[]) =>
      packets.map((packet) => isMatched(structuredClone<Partial<PolicyRule>>(rule), packet));
    assert.deepEqual(
      verdicts(matched),
      matched.map(() => true),
    );
    assert.deepEqual(
      verdicts(unmatched),
      unmatched.map(() => false),
    );
  });
}

test('a tier passes if its default action is Pass or a rule says so, and names itself if it denies', () => {
  const policy = (name: string, action: 'Allow' | 'Deny' | 'Pass', ports: number[]) =>
    compileProfile(name, {
      kind: 'Profile',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name },
      spec: { ingress: [{ action, protocol: 'TCP', destination: { ports } }] },
    });
  const [passes, denies, open] = [
    policy('passes', 'Pass', [1]),
    policy('denies', 'Deny', [1, 2]),
    policy('open', 'Allow', [1, 2, 3]),
  ];
  const verdict = (defaultAction: 'Deny' | 'Pass', destinationPort: number) => {
    const order = [passes.id, denies.id];
    const tier: StackTier = {
      name: 'security',
      ingress: order,
      egress: order,
      defaultAction,
      passLeaves: 'tier',
    };
    return evaluateStack(judged([open], [tier], [passes, denies]), 'ingress', {
      packet: {
        source: parseAddress('10.0.0.1'),
        destination: parseAddress('10.0.1.1'),
        protocol: tcp,
        sourcePort: 1,
        destinationPort,
      },
      isMember: () => false,
      hasNamedPort: () => false,
    });
  };
  const rule = (of: typeof open) => ({ policy: of.id, direction: 'ingress', index: 1 });
  const allowed = { isAllowed: true, policy: open.id, rule: rule(open) };
  const denied = { isAllowed: false, policy: denies.id, rule: rule(denies) };
  assert.deepEqual(verdict('Deny', 1), allowed, 'Pass leaves the tier');
  assert.deepEqual(verdict('Deny', 2), denied);
  assert.deepEqual(verdict('Deny', 3), { isAllowed: false, tier: 'security' });
  assert.deepEqual(verdict('Pass', 3), allowed);
});
