import fc from 'fast-check';
import { z } from 'zod';
import { address, cidr, labels as labelsSchema, metadata, net, resourceName } from '../fields.ts';
import { asNumber } from '../bgp.ts';
import { policyRule } from '../policy-rule.ts';
import { entryTypeOf, type EntryKind } from './index.ts';

/**
 * Stored values of every kind as Calico, or a newer program with more fields, could have written them. Known fields
 * are canonical and in Calico's order, unknown ones come last.
 */

/** A value that can be written as JSON; `bigint` as an integer. */
export type Json = unknown;

/** Compact JSON, written independently of the code under test. */
export function toText(value: Json): string {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map(toText).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([key, member]) => `"${key}":${toText(member)}`);
  return `{${members.join(',')}}`;
}

const uint64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

/** Any JSON: `null` at every level, and integers that do not fit a double. */
const anyJson: fc.Arbitrary<Json> = fc.letrec<{ json: Json }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    uint64,
    fc.string(),
    fc.array(tie('json'), { maxLength: 3 }),
    fc.dictionary(fc.stringMatching(/^[a-z]{1,4}$/), tie('json'), { maxKeys: 3 }),
  ),
})).json;

const unknownFields = fc.dictionary(fc.stringMatching(/^x[A-Z][a-z]{0,5}$/), anyJson, {
  maxKeys: 2,
});

/** An object with some optional fields, followed by unknown fields. */
function object(required: Fields, optional: Fields = {}, order: readonly string[] = []) {
  const names = order.length > 0 ? order : [...Object.keys(required), ...Object.keys(optional)];
  const all = { ...required, ...optional };
  return fc
    .tuple(fc.record(all, { requiredKeys: Object.keys(required) }), unknownFields)
    .map(([known, unknown]): Json => {
      const found = new Map(Object.entries(known));
      const inOrder = names
        .filter((name) => found.has(name))
        .map((name) => [name, found.get(name)]);
      return { ...Object.fromEntries(inOrder), ...unknown };
    });
}

type Fields = Readonly<Record<string, fc.Arbitrary<Json>>>;

const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
const byte = fc.integer({ min: 0, max: 255 });
const address4 = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));
const host = fc.oneof(
  address4.map((address) => `${address}/32`),
  fc.constant('fd80:24e2:f998:72d6::1/128'),
);
const network = fc.oneof(
  fc.tuple(byte, byte).map(([a, b]) => `${a}.${b}.0.0/16`),
  fc.constantFrom('fd80:24e2::/32', '0.0.0.0/0', '::/0'),
);
const blockSize = 4;
const addressesByName = fc.dictionary(name, address4, { maxKeys: 2 });
const textsByName = fc.dictionary(name, fc.string(), { maxKeys: 2 });
const labels = fc.dictionary(
  fc.stringMatching(/^([a-z]{1,4}\.[a-z]{1,3}\/)?[A-Za-z]([A-Za-z0-9._-]{0,6}[a-z])?$/),
  fc.stringMatching(/^([A-Za-z0-9]([A-Za-z0-9._-]{0,6}[a-z])?)?$/),
  { maxKeys: 3 },
);
const texts = fc.dictionary(fc.stringMatching(/^[a-z]{1,4}\/[a-z]{1,4}$/), fc.string(), {
  maxKeys: 3,
});
const uuid = fc.uuid({ version: 4 });
const time = fc.constantFrom('2026-08-22T10:00:00Z', null);

const anyMetadata = object(
  { name },
  { namespace: name, uid: uuid, creationTimestamp: time, labels, annotations: texts },
);

function resource(kind: string, spec: fc.Arbitrary<Json>) {
  return object({
    kind: fc.constant(kind),
    apiVersion: fc.constant('projectcalico.org/v3'),
    metadata: anyMetadata,
    spec,
  });
}

const port = fc.oneof(
  fc.integer({ min: 0, max: 65_535 }),
  fc.constantFrom('8000:8010', 'http', '0:65535'),
);
const protocol = fc.constantFrom('TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite', 1, 132, 255);
const entityRule = object(
  {},
  {
    nets: fc.array(network, { maxLength: 2 }),
    selector: fc.constantFrom('', "role == 'web'", 'has(t)'),
    namespaceSelector: fc.constantFrom('', 'global()'),
    services: anyJson,
    ports: fc.array(port, { maxLength: 3 }),
    notNets: fc.array(network, { maxLength: 2 }),
    notSelector: fc.constantFrom('', "role == 'db'"),
    notPorts: fc.array(port, { maxLength: 3 }),
    serviceAccounts: anyJson,
  },
);
const icmp = object({}, { type: fc.integer({ min: 0, max: 254 }), code: byte });
const rule = object(
  { action: fc.constantFrom('Allow', 'Deny', 'Log', 'Pass') },
  {
    ipVersion: fc.constantFrom(4, 6),
    protocol,
    icmp,
    notProtocol: protocol,
    notICMP: icmp,
    source: entityRule,
    destination: entityRule,
    http: anyJson,
    metadata: object({}, { annotations: texts }),
  },
);
const rules = fc.array(rule, { maxLength: 2 });
const encapsulation = fc.constantFrom('', 'Never', 'Always', 'CrossSubnet');

const holder = object({}, { handle_id: name, secondary: texts, releasedAt: fc.constant('2026') });
const ordinal = fc.integer({ min: 0, max: blockSize - 1 }).map(String);
const block = object(
  {
    cidr: fc.constantFrom('10.65.0.0/30', 'fd80::/126'),
    allocations: fc.array(fc.option(byte), { minLength: blockSize, maxLength: blockSize }),
  },
  {
    affinity: fc.constantFrom('host:host-a', 'virtual:load-balancer', null),
    affinity_claim_time: fc.constant('2026-08-22T10:00:00Z'),
    unallocated: fc.uniqueArray(fc.integer({ min: 0, max: blockSize - 1 })),
    attributes: fc.option(fc.array(holder, { maxLength: 3 })),
    sequenceNumber: uint64,
    sequenceNumberForAllocation: fc.dictionary(ordinal, uint64),
    deleted: fc.boolean(),
    hostAffinity: name,
  },
  [
    'cidr',
    'affinity',
    'affinity_claim_time',
    'allocations',
    'unallocated',
    'attributes',
    'sequenceNumber',
    'sequenceNumberForAllocation',
    'deleted',
    'hostAffinity',
  ],
);
const affinity = object(
  {},
  { state: fc.constantFrom('confirmed', 'pending', 'pendingDeletion', ''), deleted: fc.boolean() },
);

const subnet = object(
  { family: fc.constantFrom(4, 6), cidr: network },
  { gateway: address4, auxiliary: fc.dictionary(name, address4), poolId: fc.string() },
);

const noTunnel = fc.constantFrom('', 'Never');
const networks = (family: 4 | 6) => network.filter((text) => text.includes(':') === (family === 6));
const pool = (family: 4 | 6, tunnels: Fields) =>
  resource(
    'IPPool',
    object(
      { cidr: networks(family) },
      {
        ...tunnels,
        natOutgoing: fc.boolean(),
        disabled: fc.boolean(),
        disableBGPExport: fc.boolean(),
        blockSize:
          family === 4 ? fc.integer({ min: 20, max: 32 }) : fc.integer({ min: 116, max: 128 }),
        nodeSelector: fc.constantFrom('', 'all()', "rack == 'a' && !has(old)"),
        namespaceSelector: fc.string(),
        allowedUses: fc.subarray(['Workload', 'Tunnel', 'LoadBalancer']),
        assignmentMode: fc.constantFrom('Automatic', 'Manual'),
      },
    ),
  );

/** Handwritten values, for example of kinds whose fields depend on each other. */
const writtenValues: Readonly<Partial<Record<EntryKind, fc.Arbitrary<Json>>>> = {
  IPPool: fc.oneof(
    pool(4, { vxlanMode: encapsulation, ipipMode: noTunnel }),
    pool(4, { vxlanMode: noTunnel, ipipMode: encapsulation }),
    pool(6, { vxlanMode: encapsulation, ipipMode: noTunnel }),
  ),
  IPReservation: resource('IPReservation', object({}, { reservedCIDRs: fc.array(network) })),
  Profile: resource(
    'Profile',
    object({}, { ingress: rules, egress: rules, labelsToApply: labels }),
  ),
  WorkloadEndpoint: resource(
    'WorkloadEndpoint',
    object(
      {
        orchestrator: fc.constant('libnetwork'),
        node: name,
        endpoint: name,
        interfaceName: fc.constant('cali4e0f3c9a1b2'),
      },
      {
        workload: fc.constant('libnetwork'),
        containerID: name,
        ipNetworks: fc.array(host, { maxLength: 2 }),
        profiles: fc.array(name, { maxLength: 2 }),
        mac: fc.constant('ee:ee:ee:ee:ee:ee'),
        ports: fc.array(object({ name, protocol, port: byte }), { maxLength: 2 }),
      },
      [
        'orchestrator',
        'workload',
        'node',
        'containerID',
        'endpoint',
        'ipNetworks',
        'profiles',
        'interfaceName',
        'mac',
        'ports',
      ],
    ),
  ),
  Node: resource('Node', object({})),
  ClusterInformation: resource(
    'ClusterInformation',
    object(
      {},
      {
        clusterGUID: fc.string(),
        clusterType: fc.string(),
        calicoVersion: fc.string(),
        datastoreReady: fc.boolean(),
      },
    ),
  ),
  Tier: resource(
    'Tier',
    object(
      {},
      {
        order: fc.oneof(fc.integer(), fc.constantFrom(0.5, 1e300)),
        defaultAction: fc.constantFrom('Deny', 'Pass'),
      },
    ),
  ),
  NetworkSet: resource('NetworkSet', object({}, { nets: fc.array(fc.string()) })),
  GlobalNetworkSet: resource(
    'GlobalNetworkSet',
    object({}, { nets: fc.array(fc.string()), allowedEgressDomains: fc.array(fc.string()) }),
  ),
  OtherResource: object({}),
  Block4: block,
  Block6: block,
  Affinity4: affinity,
  Affinity6: affinity,
  NodeReport: object(
    { time: fc.string(), uptime: byte, first_update: fc.boolean() },
    { lease: fc.string() },
    ['time', 'uptime', 'first_update', 'lease'],
  ),
  Handle: object(
    {},
    {
      block: fc.dictionary(fc.constantFrom('10.65.0.0/26', 'fd80::/122'), byte),
      deleted: fc.boolean(),
    },
  ),
  IpamConfig: object(
    {},
    { strict_affinity: fc.boolean(), auto_allocate_blocks: fc.boolean(), maxBlocksPerHost: byte },
  ),
  DockerNetwork: object(
    {
      id: fc.string(),
      node: name,
      ipam: fc.constantFrom('calico', 'docker'),
      internal: fc.boolean(),
      ipv4: fc.boolean(),
      ipv6: fc.boolean(),
      subnets: fc.array(subnet, { maxLength: 2 }),
      options: object({}, { profiles: fc.array(name), mtu: byte, natOutgoing: fc.boolean() }),
    },
    { name: fc.string(), nextHop4: address4, nextHop6: fc.constant('fe80::1') },
    [
      'id',
      'node',
      'name',
      'ipam',
      'internal',
      'ipv4',
      'ipv6',
      'subnets',
      'nextHop4',
      'nextHop6',
      'options',
    ],
  ),
  DockerPool: object(
    {
      poolId: fc.string(),
      node: name,
      family: fc.constantFrom(4, 6),
      createdAt: fc.constant('2026-08-22T10:00:00Z'),
    },
    { subnet: network, range: network, ipPools: fc.array(name), ipPool: name, nextHop: address4 },
    ['poolId', 'node', 'family', 'subnet', 'range', 'ipPools', 'ipPool', 'nextHop', 'createdAt'],
  ),
  NetworkDefinition: object(
    {
      name,
      uid: fc.string(),
      createdAt: fc.constant('2026-08-22T10:00:00Z'),
      internal: fc.boolean(),
      ipv6: fc.boolean(),
      subnets: fc.array(
        object(
          { cidr: network },
          { range: network, gateway: address4, auxiliary: addressesByName },
        ),
        { maxLength: 2 },
      ),
      options: textsByName,
      labels: textsByName,
    },
    {
      isRemoving: fc.constant(true),
      ipPools: fc.array(name),
      vxlanMode: fc.constantFrom('Always', 'CrossSubnet', 'Never'),
    },
    [
      'name',
      'uid',
      'createdAt',
      'isRemoving',
      'internal',
      'ipv6',
      'subnets',
      'ipPools',
      'vxlanMode',
      'options',
      'labels',
    ],
  ),
};

/** Values of schemas that are stricter than their type. */
const fitting = new Map<z.core.$ZodType, fc.Arbitrary<Json>>([
  [address, address4],
  [cidr, network],
  [net, network],
  [resourceName, name],
  [labelsSchema, labels],
  [metadata, anyMetadata],
  [policyRule, rule],
  [asNumber, fc.integer({ min: 0, max: 2 ** 32 - 1 })],
]);

/** Values that a schema accepts, with unknown fields. */
function valuesOf(schema: z.core.$ZodType): fc.Arbitrary<Json> {
  const known = fitting.get(schema);
  if (known !== undefined) return known;
  if (schema instanceof z.ZodObject) {
    const shape: Readonly<Record<string, z.core.$ZodType>> = schema.shape;
    const fields = Object.entries(shape);
    const isOptional = (field: z.core.$ZodType) => field instanceof z.ZodExactOptional;
    const some = (optional: boolean) =>
      Object.fromEntries(
        fields
          .filter(([, field]) => isOptional(field) === optional)
          .map(([key, field]) => [key, valuesOf(field)]),
      );
    return object(some(false), some(true), Object.keys(shape));
  }
  if (schema instanceof z.ZodExactOptional) return valuesOf(schema.unwrap());
  if (schema instanceof z.ZodArray) return fc.array(valuesOf(schema.element), { maxLength: 2 });
  if (schema instanceof z.ZodUnion) {
    // Without the `null` of a map, which is written as the empty value.
    const written = schema.options.filter((option) => !(option instanceof z.ZodPipe));
    return fc.oneof(...written.map(valuesOf));
  }
  if (schema instanceof z.ZodRecord) return fc.dictionary(name, valuesOf(schema.valueType));
  if (schema instanceof z.ZodEnum) return fc.constantFrom(...schema.options);
  if (schema instanceof z.ZodLiteral) return fc.constantFrom(...schema.values);
  if (schema instanceof z.ZodNumber) {
    const [min, max] = [schema.minValue ?? -9, schema.maxValue ?? 9];
    return fc.integer({ min: Math.max(min, -1e6), max: Math.min(max, 1e6) });
  }
  if (schema instanceof z.ZodString) return fc.string();
  if (schema instanceof z.ZodBoolean) return fc.boolean();
  if (schema instanceof z.ZodUnknown) return anyJson;
  throw new Error(`no values are known for ${schema.constructor.name}`);
}

/** Stored values of a kind: handwritten, or generated from its schema. */
export function storedValues(kind: EntryKind): fc.Arbitrary<Json> {
  return writtenValues[kind] ?? valuesOf(entryTypeOf[kind].schema);
}
