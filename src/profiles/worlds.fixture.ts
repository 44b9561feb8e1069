import fc from 'fast-check';
import { parseAddress, type IpAddress } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { EntityRule, PolicyRule } from '../model/policy-rule.ts';
import type { Packet } from './evaluate/evaluate.ts';
import type {
  ReferenceEndpoint,
  ReferenceHost,
  ReferencePolicy,
  World,
} from './reference.fixture.ts';

/** Random resources and packets, small enough that most of them meet. */

export const here = parseAddress('10.65.0.1');
export const peer = parseAddress('10.65.0.2');
export const shop = parseAddress('10.65.1.1');
export const outside = parseAddress('192.0.2.1');

const exact = { noNullPrototype: true } as const;
const selector = fc.constantFrom(
  'all()',
  "role == 'db'",
  "role != 'db'",
  'has(net)',
  "role in {'app', 'db'} && !has(net)",
  "pcns.team == 'a'",
);
const namespaceSelector = fc.constantFrom('all()', 'global()', "team == 'a'", "team != 'a'");
const nets = fc.subarray(['10.65.0.0/24', '10.65.1.1/32', '192.0.2.0/24'].map(parseCidr), {
  minLength: 1,
});
const ports = fc.subarray<number | string>([80, '400:500', 5432], { minLength: 1 });

const noPorts = {
  nets,
  notNets: nets,
  selector,
  notSelector: selector,
  namespaceSelector,
};

function entity(withPorts: boolean): fc.Arbitrary<EntityRule> {
  const fields = withPorts ? { ...noPorts, ports, notPorts: ports } : noPorts;
  // Few criteria at once, so that rules match.
  return fc
    .subarray(Object.keys(fields), { maxLength: 2 })
    .chain((keys) =>
      fc.record(
        Object.fromEntries(Object.entries(fields).filter(([key]) => keys.includes(key))),
        exact,
      ),
    );
}

const action = fc.constantFrom<PolicyRule['action']>(
  'Allow',
  'Allow',
  'Allow',
  'Allow',
  'Deny',
  'Deny',
  'Pass',
  'Pass',
  'Log',
);

const anyRule = fc.record(
  {
    action,
    source: entity(false),
    destination: entity(false),
    notProtocol: fc.constantFrom<'UDP' | 'ICMP' | number>('UDP', 'ICMP', 17),
    ipVersion: fc.constant(4 as const),
  },
  { ...exact, requiredKeys: ['action', 'source', 'destination'] },
);
const portRule = fc.record(
  {
    action,
    protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
    source: entity(true),
    destination: entity(true),
  },
  exact,
);
const icmpRule = fc.record(
  {
    action,
    protocol: fc.constant('ICMP' as const),
    source: entity(false),
    icmp: fc.record({ type: fc.constant(8), code: fc.constant(0) }, exact),
  },
  { ...exact, requiredKeys: ['action', 'protocol'] },
);

export const rules: fc.Arbitrary<PolicyRule[]> = fc.array(fc.oneof(anyRule, portRule, icmpRule), {
  minLength: 1,
  maxLength: 4,
});

const policy: fc.Arbitrary<ReferencePolicy['spec']> = fc.record(
  {
    tier: fc.constantFrom('default', 'security', 'late', 'missing'),
    order: fc.constantFrom(1, 2, 3),
    selector,
    types: fc.constantFrom<('Ingress' | 'Egress')[]>(
      ['Ingress'],
      ['Egress'],
      ['Ingress', 'Egress'],
    ),
    ingress: rules,
    egress: rules,
  },
  { ...exact, requiredKeys: [] },
);

const networkPolicy = fc
  .record({ namespace: fc.constantFrom('libnetwork', 'shop'), spec: policy })
  .map((one) => ({ kind: 'NetworkPolicy' as const, ...one }));
const globalPolicy = fc
  .record({ spec: policy, namespaces: fc.option(namespaceSelector, { freq: 3, nil: undefined }) })
  .map(({ spec, namespaces }) => ({
    kind: 'GlobalNetworkPolicy' as const,
    spec: namespaces === undefined ? spec : { ...spec, namespaceSelector: namespaces },
  }));

const isStaged = fc.constantFrom(true, false, false, false, false);
const policyWithName = fc
  .tuple(fc.oneof(networkPolicy, globalPolicy), isStaged)
  .map(([one, staged]): Omit<ReferencePolicy, 'name'> =>
    staged ? { ...one, kind: `Staged${one.kind}` } : one,
  );

const labels = fc.constantFrom<Readonly<Record<string, string>>>(
  {},
  { role: 'db' },
  { role: 'app' },
  { role: 'app', net: '' },
);

function endpointAt(address: IpAddress, namespace: string): fc.Arbitrary<ReferenceEndpoint> {
  return fc.record({
    namespace: fc.constant(namespace),
    addresses: fc.constant([address]),
    labels,
    profiles: fc.oneof(
      { weight: 3, arbitrary: fc.constant([`kns.${namespace}`, 'p', 'open']) },
      {
        weight: 1,
        arbitrary: fc.subarray(['p', 'gone', 'open', `kns.${namespace}`], { maxLength: 3 }),
      },
    ),
  });
}

/** The first endpoint is that of this host. */
export const world: fc.Arbitrary<World> = fc.record({
  tiers: fc.constantFrom<World['tiers']>(
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
    .array(policyWithName, { maxLength: 6 })
    .map((all) => all.map((one, index) => ({ ...one, name: `p${index}` }))),
  profiles: fc.record({ ingress: rules, egress: rules, labelsToApply: labels }).map(
    (p) =>
      new Map<string, World['profiles'] extends ReadonlyMap<string, infer P> ? P : never>([
        ['open', { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] }],
        ['p', p],
        ['kns.shop', { labelsToApply: { 'pcns.team': 'a' } }],
        ['kns.libnetwork', { labelsToApply: { 'pcns.team': 'b' } }],
      ]),
  ),
  endpoints: fc.tuple(
    endpointAt(here, 'libnetwork'),
    endpointAt(peer, 'libnetwork'),
    endpointAt(shop, 'shop'),
  ),
  sets: fc.array(
    fc.record(
      {
        namespace: fc.constantFrom('shop', 'libnetwork'),
        nets: nets.map((of) => of.slice(0, 2)),
        domains: fc.subarray([here, peer, outside]),
        labels,
      },
      { ...exact, requiredKeys: ['nets', 'labels'] },
    ),
    { maxLength: 2 },
  ),
});

/** A world in which policies may be those of host endpoints only, with a host endpoint. */
export const hostWorld: fc.Arbitrary<{ readonly of: World; readonly host: ReferenceHost }> = fc
  .record({
    of: world,
    stages: fc.array(fc.constantFrom('untracked', 'preDnat', 'preDnat', 'forwarded', 'local'), {
      minLength: 4,
      maxLength: 4,
    }),
    host: fc.record({
      labels: fc.constantFrom({}, { role: 'db' }, { role: 'app', net: '' }),
      profiles: fc.subarray(['p', 'gone', 'open'], { maxLength: 2 }),
    }),
  })
  .map(({ of, stages, host }) => ({
    host,
    of: {
      ...of,
      policies: of.policies.map((one, index): ReferencePolicy => {
        const stage = one.kind === 'GlobalNetworkPolicy' ? stages[index] : undefined;
        // Other tests have tiers that do not exist.
        const isMissing = !of.tiers.has(one.spec.tier ?? 'default');
        const tier = isMissing ? 'default' : (one.spec.tier ?? 'default');
        const flags = {
          ...(stage === 'untracked' ? { doNotTrack: true, applyOnForward: true } : {}),
          ...(stage === 'preDnat' ? { preDNAT: true, applyOnForward: true } : {}),
          ...(stage === 'forwarded' ? { applyOnForward: true } : {}),
        };
        return { ...one, spec: { ...one.spec, tier, ...flags } };
      }),
    },
  }));

const ends = fc.constantFrom(peer, shop, outside);
const port = fc.constantFrom(80, 450, 5432, 9999);

/** A packet to, or from, the endpoint of this host. */
export function packetOf(way: 'ingress' | 'egress'): fc.Arbitrary<Packet> {
  return fc.record(
    {
      source: way === 'ingress' ? ends : fc.constant(here),
      destination: way === 'ingress' ? fc.constant(here) : ends,
      protocol: fc.constantFrom(1, 6, 17),
      sourcePort: port,
      destinationPort: port,
      icmpType: fc.constantFrom(8, 13),
      icmpCode: fc.constant(0),
    },
    exact,
  );
}
