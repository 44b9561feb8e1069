import fc from 'fast-check';
import { parseAddress, type IpFamily } from '../../../src/ip/address.ts';
import { parseCidr } from '../../../src/ip/cidr.ts';
import type { EntityRule, PolicyRule } from '../../../src/model/policy-rule.ts';
import type { ReferencePolicy, ReferenceProfile } from '../../../src/profiles/reference.fixture.ts';
import { hasPorts, icmp, icmpv6, otherProtocol, sctp, tcp, udp, type Packet } from './packets.ts';
import {
  addresses,
  containers,
  failsafePort,
  hostOf,
  isHost,
  namedPorts,
  placeOf,
  published,
  type Place,
} from './places.ts';
import type { HostsWorld } from './walk.ts';

/** Random resources of two hosts, and random packets, so few of each kind that most of them meet. */

const exact = { noNullPrototype: true } as const;
const all = { ...exact, requiredKeys: [] as [] };

const selector = fc.constantFrom(
  'all()',
  'all()',
  "role == 'db'",
  "role != 'db'",
  'has(net)',
  "role in {'app', 'db'} && !has(net)",
  "pcns.team == 'a'",
  "projectcalico.org/namespace == 'shop'",
);
const namespaceSelector = fc.constantFrom('all()', 'global()', "team == 'a'", "team != 'a'");
const nets = fc.subarray(
  [
    '10.65.0.0/24',
    '10.65.1.1/32',
    '192.0.2.0/24',
    '172.20.0.0/16',
    '203.0.113.1/32',
    'fd65::1:0/112',
    'fd65::2:1/128',
    'fd00:192::/32',
    'fd00::/8',
  ].map(parseCidr),
  { minLength: 1, maxLength: 5 },
);
const ports = fc.subarray<number | string>([80, '400:500', 5432, 8080, 'sql', 'dns'], {
  minLength: 1,
  maxLength: 3,
});

const noPorts = { nets, notNets: nets, selector, notSelector: selector, namespaceSelector };

function entity(withPorts: boolean): fc.Arbitrary<EntityRule> {
  const fields = withPorts ? { ...noPorts, ports, notPorts: ports } : noPorts;
  // Few criteria at once, so that rules match.
  return fc
    .oneof(
      fc.subarray(Object.keys(fields), { minLength: 1, maxLength: 1 }),
      fc.subarray(Object.keys(fields), { minLength: 1, maxLength: 2 }),
    )
    .chain((keys) =>
      fc.record(
        Object.fromEntries(Object.entries(fields).filter(([key]) => keys.includes(key))),
        exact,
      ),
    );
}

const action = fc.constantFrom<PolicyRule['action']>(
  ...(['Allow', 'Allow', 'Allow', 'Allow', 'Deny', 'Deny', 'Pass', 'Pass', 'Log'] as const),
);
const ipVersion = fc.constantFrom(4 as const, 6 as const);

const anyRule = fc.record(
  {
    action,
    source: entity(false),
    destination: entity(false),
    notProtocol: fc.constantFrom<'UDP' | 'ICMP' | 'SCTP' | number>('UDP', 'ICMP', 'SCTP', 99),
    ipVersion,
  },
  { ...exact, requiredKeys: ['action'] },
);
const portRule = fc.record(
  {
    action,
    protocol: fc.constantFrom<'TCP' | 'UDP' | 'SCTP'>('TCP', 'TCP', 'UDP', 'UDP', 'SCTP'),
    source: entity(true),
    destination: entity(true),
    ipVersion,
  },
  { ...exact, requiredKeys: ['action', 'protocol', 'destination'] },
);
const icmpRule = fc
  .record(
    {
      action,
      isSix: fc.boolean(),
      source: entity(false),
      destination: entity(false),
      type: fc.constantFrom(undefined, 0, 1, 13),
      code: fc.constantFrom(undefined, 0, 1),
      isNegated: fc.constantFrom(true, false, false),
    },
    { ...exact, requiredKeys: ['action', 'isSix', 'type', 'code', 'isNegated'] },
  )
  .map(({ isSix, type, code, isNegated, ...rule }): PolicyRule => {
    // 0: the echo request of each.
    const number = type === 0 ? (isSix ? 128 : 8) : type;
    const match =
      number === undefined ? {} : { type: number, ...(code === undefined ? {} : { code }) };
    return {
      ...rule,
      protocol: isSix ? 'ICMPv6' : 'ICMP',
      ...(isNegated ? { notICMP: match } : { icmp: match }),
    };
  });
const namedPortRule = fc.record(
  {
    action,
    protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
    destination: fc.record({
      ports: fc.constantFrom<(number | string)[]>(['sql'], ['dns'], ['dns', 'sql', 8080]),
    }),
  },
  exact,
);
/** Decides on all packets that reach it. */
const lastRule = fc.record({
  action: fc.constantFrom<PolicyRule['action']>('Allow', 'Deny', 'Pass', 'Pass'),
});
const otherRule = fc.record(
  { action, protocol: fc.constant(otherProtocol), source: entity(false) },
  { ...exact, requiredKeys: ['action', 'protocol'] },
);

const someRules: fc.Arbitrary<PolicyRule[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: anyRule },
    { weight: 4, arbitrary: portRule },
    { weight: 2, arbitrary: icmpRule },
    { weight: 1, arbitrary: otherRule },
    { weight: 2, arbitrary: namedPortRule },
  ),
  { minLength: 1, maxLength: 5 },
);

const rules = fc
  .tuple(someRules, fc.option(lastRule, { freq: 2, nil: undefined }))
  .map(([some, last]): PolicyRule[] => (last === undefined ? some : [...some, last]));

const policySpec: fc.Arbitrary<ReferencePolicy['spec']> = fc.record(
  {
    tier: fc.constantFrom(
      'default',
      'default',
      'default',
      'default',
      'security',
      'security',
      'security',
      'missing',
      'late',
    ),
    order: fc.constantFrom(1, 2, 3),
    selector: fc.oneof(fc.constantFrom('all()', 'has(projectcalico.org/namespace)'), selector),
    types: fc.constantFrom<('Ingress' | 'Egress')[]>(
      ['Ingress'],
      ['Egress'],
      ['Ingress', 'Egress'],
    ),
    ingress: rules,
    egress: rules,
  },
  all,
);

const stageFlags = fc.constantFrom(
  {},
  {},
  {},
  {},
  { applyOnForward: true },
  { applyOnForward: true },
  { doNotTrack: true, applyOnForward: true },
  { preDNAT: true, applyOnForward: true },
);

type Unnamed = Omit<ReferencePolicy, 'name'>;

const networkPolicy = fc.record({
  kind: fc.constant('NetworkPolicy' as const),
  namespace: fc.constantFrom('libnetwork', 'shop'),
  spec: policySpec,
});
const globalPolicy = fc
  .record({
    spec: policySpec,
    flags: stageFlags,
    namespaces: fc.option(namespaceSelector, { freq: 3, nil: undefined }),
  })
  .map(({ spec: { egress, types, ...rest }, flags, namespaces }): Unnamed => {
    const isPreDnat = 'preDNAT' in flags;
    return {
      kind: 'GlobalNetworkPolicy',
      spec: {
        ...rest,
        ...(egress === undefined || isPreDnat ? {} : { egress }),
        ...(isPreDnat ? { types: ['Ingress'] } : types === undefined ? {} : { types }),
        ...flags,
        ...(namespaces === undefined ? {} : { namespaceSelector: namespaces }),
      },
    };
  });
const policy = fc
  .tuple(
    fc.oneof<fc.Arbitrary<Unnamed>[]>(networkPolicy, globalPolicy, globalPolicy),
    fc.constantFrom(true, false, false, false, false, false),
  )
  .map(([one, isStaged]): Unnamed =>
    isStaged && (one.kind === 'NetworkPolicy' || one.kind === 'GlobalNetworkPolicy')
      ? { ...one, kind: `Staged${one.kind}` }
      : one,
  );

/** Two policies of one tier that contradict each other, unless the first passes a packet on. */
const contradiction: fc.Arbitrary<Unnamed[]> = fc
  .record({
    tier: fc.constantFrom('default', 'security'),
    passing: fc.oneof(anyRule, portRule),
    decision: fc.constantFrom('Allow' as const, 'Deny' as const),
  })
  .map(({ tier, passing, decision }) => {
    const policyWith = (order: number, rule: PolicyRule): Unnamed => {
      const spec = { tier, order, ingress: [rule], egress: [rule] };
      return { kind: 'GlobalNetworkPolicy', spec };
    };
    return [policyWith(0, { ...passing, action: 'Pass' }), policyWith(0.5, { action: decision })];
  });

const labels = fc.constantFrom<Readonly<Record<string, string>>>(
  {},
  { role: 'db' },
  { role: 'app' },
  { role: 'app', net: '' },
);

function endpointOf(name: keyof typeof containers) {
  const { namespace } = containers[name];
  return fc
    .record({
      labels,
      profiles: fc.oneof(
        { weight: 3, arbitrary: fc.constant([`kns.${namespace}`, 'p', 'open']) },
        {
          weight: 1,
          arbitrary: fc.subarray(['p', 'gone', 'open', `kns.${namespace}`], { maxLength: 3 }),
        },
      ),
    })
    .map((one) => ({
      ...one,
      namespace,
      addresses: Object.values(addresses[name]),
      ports: namedPorts.filter(({ owner }) => owner === name),
    }));
}

const hostEndpoint = fc.record({
  host: fc.constantFrom('h1' as const, 'h2' as const),
  interface: fc.constantFrom('*' as const, 'uplink' as const, 'fabric' as const),
  labels,
  profiles: fc.constantFrom<string[]>([], ['open'], ['open'], ['open'], ['p', 'open'], ['gone']),
});

export const hostsWorld: fc.Arbitrary<HostsWorld> = fc.record({
  tiers: fc.constantFrom<HostsWorld['tiers']>(
    new Map([
      ['default', { order: 10, defaultAction: 'Deny' as const }],
      ['security', { order: 1, defaultAction: 'Pass' as const }],
      ['late', {}],
    ]),
    new Map([
      ['late', { order: 10, defaultAction: 'Pass' as const }],
      ['default', { order: 10 }],
    ]),
  ),
  policies: fc
    .tuple(
      fc.array(policy, { minLength: 1, maxLength: 10 }),
      fc.option(contradiction, { freq: 2, nil: [] }),
    )
    .map(([some, others]) =>
      [...some, ...others].map((one, index) => ({ ...one, name: `p${index}` })),
    ),
  profiles: fc.record({ ingress: rules, egress: rules, labelsToApply: labels }).map(
    (p): HostsWorld['profiles'] =>
      new Map<string, ReferenceProfile>([
        ['open', { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] }],
        ['p', p],
        ['kns.shop', { labelsToApply: { 'pcns.team': 'a' } }],
        ['kns.libnetwork', { labelsToApply: { 'pcns.team': 'b' } }],
      ]),
  ),
  endpoints: fc.tuple(endpointOf('a'), endpointOf('b'), endpointOf('c')),
  sets: fc.array(
    fc.record(
      {
        namespace: fc.constantFrom('shop', 'libnetwork'),
        nets: nets.map((of) => of.slice(0, 2)),
        labels,
      },
      { ...exact, requiredKeys: ['nets', 'labels'] },
    ),
    { maxLength: 2 },
  ),
  hostEndpoints: fc.oneof(
    fc.constant([]),
    fc.uniqueArray(hostEndpoint, {
      maxLength: 3,
      selector: (one) => `${one.host} ${one.interface}`,
    }),
  ),
});

const port = fc.constantFrom(80, 80, 450, 450, 5432, 5432, 8080, 8081, 9999, failsafePort);
const otherAddress: Readonly<Record<IpFamily, readonly ReturnType<typeof parseAddress>[]>> = {
  4: [parseAddress('192.0.2.77'), parseAddress('10.65.1.9')],
  6: [parseAddress('fd00:192::77'), parseAddress('fd65::2:9')],
};

export interface Drawn {
  readonly from: Place;
  readonly packet: Omit<Packet, 'id' | 'flow' | 'acknowledges' | 'part'>;
  /** What follows it if it arrives, or even if not. */
  readonly sequel: 'nothing' | 'reply' | 'error' | 'forged error';
}

const place = fc.constantFrom<Place>('h1', 'h2', 'a', 'a', 'b', 'b', 'c', 'c', 'lan', 'out', 'out');

/** A first packet from one place to another, and what follows it. */
export const drawn: fc.Arbitrary<Drawn> = fc
  .record({
    from: place,
    to: place,
    family: fc.constantFrom<IpFamily>(4, 6),
    protocol: fc.constantFrom(icmp, tcp, tcp, udp, udp, sctp, otherProtocol),
    sourcePort: port,
    destinationPort: port,
    isEcho: fc.constantFrom(true, true, false),
    shape: fc.constantFrom<Packet['shape']>(
      ...(['plain', 'plain', 'plain', 'fragments', 'options', 'atomic fragment'] as const),
    ),
    spoofed: fc.constantFrom('no', 'no', 'no', 'no', 'no', 'of another', 'of nobody'),
    sequel: fc.constantFrom<Drawn['sequel']>('nothing', 'reply', 'reply', 'error', 'forged error'),
    isPublished: fc.constantFrom(true, false, false),
  })
  .filter(({ from, to }) => from !== to)
  .map(({ from, to, family, protocol: given, isEcho, spoofed, isPublished, ...rest }): Drawn => {
    const protocol = given === icmp && family === 6 ? icmpv6 : given;
    const mayForge = spoofed !== 'no' && !isHost(from);
    const other = addresses[from === 'b' ? 'a' : 'b'][family];
    const nobody = otherAddress[family][0] ?? other;
    const host: Place = to === 'c' ? 'h2' : 'h1';
    const isToHost =
      isPublished &&
      hasPorts(protocol) &&
      from !== host &&
      (to === 'a' || to === 'b' || to === 'c') &&
      from !== to;
    return {
      from,
      sequel: mayForge ? 'nothing' : rest.sequel,
      packet: {
        source: mayForge ? (spoofed === 'of another' ? other : nobody) : addresses[from][family],
        destination: addresses[isToHost ? host : to][family],
        protocol,
        sourcePort: rest.sourcePort,
        destinationPort: isToHost ? (to === 'b' ? 8081 : 8080) : rest.destinationPort,
        icmpType: family === 4 ? (isEcho ? 8 : 13) : 128,
        icmpCode: 0,
        shape: rest.shape,
      },
    };
  })
  .filter(
    ({ packet, from }) => packet.source !== packet.destination && !isOwnPublished(from, packet),
  );

/** A container that connects to its own published port gets an address of the host as source. */
function isOwnPublished(from: Place, { destination, destinationPort }: Drawn['packet']): boolean {
  return published.some(
    ({ owner, hostPort }) =>
      owner === from &&
      hostPort === destinationPort &&
      placeOf(destination) === hostOf(owner, owner),
  );
}
