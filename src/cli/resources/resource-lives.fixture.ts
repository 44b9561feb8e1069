import type { ResourceKind } from '../../model/kinds/index.ts';

/** A resource as users write it, its row in the table, and its key and value as stored by Calico's client. */
export interface ResourceLife {
  readonly kind: ResourceKind;
  /** The name of the kind on the command line, its short form if any. */
  readonly word: string;
  /** The name in commands and their output. */
  readonly id: string;
  /** The YAML document. */
  readonly document: string;
  /** The cells of its row in the table. */
  readonly row: readonly string[];
  /** The key below the root of resources. */
  readonly key: string;
  /** Stored labels and annotations; none if not given. */
  readonly marks?: unknown;
  /** The stored spec. */
  readonly spec: unknown;
  /** The note printed by `apply`, if any. */
  readonly note: string | undefined;
}

const header = (kind: string) => `apiVersion: projectcalico.org/v3\nkind: ${kind}\n`;
const selectsNothing = (policy: string, namespace: string) =>
  `note: ${policy} selects nothing: no network is in namespace ${namespace}, and networks that name none are in libnetwork\n`;
const noEffect = (kind: string) => `note: ${kind} is stored but has no effect on this host\n`;
const rule =
  '{action: Allow, protocol: tcp, source: {selector: "role == \'a\'"}, destination: {ports: [80, "8000:8010"]}}';
const storedRule = {
  action: 'Allow',
  protocol: 'TCP',
  source: { selector: "role == 'a'" },
  destination: { ports: [80, '8000:8010'] },
};

/** Labels and annotations that Calico's client adds to a policy of the tier `default`. */
const policyMarks = (name: string, labels: Readonly<Record<string, string>> = {}) => ({
  labels: { ...labels, 'projectcalico.org/tier': 'default' },
  annotations: { 'projectcalico.org/metadata': JSON.stringify({ name }) },
});

/** The kinds that are stored for Calico and have no effect yet, and Node, which has an effect. */
export const resourceLives: readonly ResourceLife[] = [
  {
    kind: 'Tier',
    word: 'tiers',
    id: 'security',
    document: `${header('Tier')}metadata: {name: security}\nspec: {order: 100}\n`,
    row: ['security', '100'],
    key: 'tiers/security',
    spec: { order: 100, defaultAction: 'Deny' },
    note: undefined,
  },
  {
    kind: 'NetworkPolicy',
    word: 'np',
    id: 'default/web',
    document: `${header('NetworkPolicy')}metadata: {name: web}\nspec: {order: 10, selector: "role == 'web'", ingress: [${rule}]}\n`,
    row: ['default', 'web', 'default', '10', "role == 'web'"],
    key: 'networkpolicies/default/web',
    marks: policyMarks('web'),
    spec: {
      tier: 'default',
      order: 10,
      ingress: [storedRule],
      selector: "role == 'web'",
      types: ['Ingress'],
    },
    note: selectsNothing('NetworkPolicy default/web', 'default'),
  },
  {
    kind: 'GlobalNetworkPolicy',
    word: 'gnps',
    id: 'security.web',
    document: `${header('GlobalNetworkPolicy')}metadata: {name: security.web, labels: {a: b}}\nspec: {selector: all(), egress: [{action: Deny}], preDNAT: false}\n`,
    row: ['security.web', 'default', '', 'all()'],
    key: 'globalnetworkpolicies/security.web',
    marks: policyMarks('security.web', { a: 'b' }),
    spec: {
      tier: 'default',
      egress: [{ action: 'Deny' }],
      selector: 'all()',
      types: ['Egress'],
      preDNAT: false,
    },
    note: undefined,
  },
  {
    kind: 'StagedNetworkPolicy',
    word: 'snp',
    id: 'shop/web',
    document: `${header('StagedNetworkPolicy')}metadata: {name: web, namespace: shop}\nspec: {}\n`,
    row: ['shop', 'web', 'default', '', ''],
    key: 'stagednetworkpolicies/shop/web',
    marks: policyMarks('web'),
    spec: { stagedAction: 'Set', tier: 'default', types: ['Ingress'] },
    note: noEffect('StagedNetworkPolicy') + selectsNothing('StagedNetworkPolicy shop/web', 'shop'),
  },
  {
    kind: 'StagedGlobalNetworkPolicy',
    word: 'sgnp',
    id: 'web',
    document: `${header('StagedGlobalNetworkPolicy')}metadata: {name: web}\nspec: {stagedAction: Delete}\n`,
    row: ['web', 'default', '', ''],
    key: 'stagedglobalnetworkpolicies/web',
    marks: policyMarks('web'),
    spec: { stagedAction: 'Delete', tier: 'default' },
    note: noEffect('StagedGlobalNetworkPolicy'),
  },
  {
    kind: 'HostEndpoint',
    word: 'hep',
    id: 'host-a.eth0',
    document: `${header('HostEndpoint')}metadata: {name: host-a.eth0}\nspec: {node: host-a, interfaceName: eth0, expectedIPs: [192.0.2.1, "2001:db8::1"], profiles: [a]}\n`,
    row: ['host-a.eth0', 'host-a', 'eth0', '192.0.2.1,2001:db8::1', 'a'],
    key: 'hostendpoints/host-a.eth0',
    spec: {
      node: 'host-a',
      interfaceName: 'eth0',
      expectedIPs: ['192.0.2.1', '2001:db8::1'],
      profiles: ['a'],
    },
    note: 'note: HostEndpoint host-a.eth0 covers interface eth0 of node host-a\n',
  },
  {
    kind: 'BGPConfiguration',
    word: 'bgpconfig',
    id: 'default',
    document: `${header('BGPConfiguration')}metadata: {name: default}\nspec: {nodeToNodeMeshEnabled: false, asNumber: 64513}\n`,
    row: ['default', 'Info', 'false', '64513'],
    key: 'bgpconfigurations/default',
    spec: {
      logSeverityScreen: 'Info',
      nodeToNodeMeshEnabled: false,
      asNumber: 64_513,
      serviceLoadBalancerAggregation: 'Enabled',
    },
    note: undefined,
  },
  {
    kind: 'BGPFilter',
    word: 'bgpfilters',
    id: 'own',
    document: `${header('BGPFilter')}metadata: {name: own}\nspec: {exportV4: [{action: Accept, matchOperator: In, cidr: 10.65.0.0/16}, {action: Reject}], importV6: [{action: Reject}]}\n`,
    row: ['own', '2', '0', '0', '1'],
    key: 'bgpfilters/own',
    spec: {
      exportV4: [
        { cidr: '10.65.0.0/16', matchOperator: 'In', action: 'Accept' },
        { action: 'Reject' },
      ],
      importV6: [{ action: 'Reject' }],
    },
    note: undefined,
  },
  {
    kind: 'BGPPeer',
    word: 'bgpp',
    id: 'tor',
    document: `${header('BGPPeer')}metadata: {name: tor}\nspec: {peerIP: "192.0.2.254:1179", asNumber: "64512.10", nodeSelector: rack == 'a'}\n`,
    row: ['tor', '192.0.2.254:1179', "rack == 'a'", '4227858442'],
    key: 'bgppeers/tor',
    spec: { nodeSelector: "rack == 'a'", peerIP: '192.0.2.254:1179', asNumber: 4_227_858_442 },
    note: undefined,
  },
  {
    kind: 'FelixConfiguration',
    word: 'felixconfig',
    id: 'node.host-a',
    document: `${header('FelixConfiguration')}metadata: {name: node.host-a}\nspec: {defaultEndpointToHostAction: Return, routeRefreshInterval: 90s, somethingOfTomorrow: [1]}\n`,
    row: ['node.host-a'],
    key: 'felixconfigurations/node.host-a',
    spec: {
      routeRefreshInterval: '90s',
      defaultEndpointToHostAction: 'Return',
      somethingOfTomorrow: [1],
    },
    note: ['routeRefreshInterval', 'defaultEndpointToHostAction', 'somethingOfTomorrow']
      .map((field) => noEffect(`FelixConfiguration node.host-a: spec.${field}`))
      .join(''),
  },
  {
    kind: 'Node',
    word: 'node',
    id: 'host-b',
    document: `${header('Node')}metadata: {name: host-b, labels: {rack: a}}\nspec: {addresses: [{address: 192.0.2.2/24, type: InternalIP}], bgp: {ipv4Address: 192.0.2.2/24, asNumber: 64512, ipv4IPIPTunnelAddr: 10.65.0.1}}\n`,
    row: ['host-b', '64512', '192.0.2.2/24'],
    key: 'nodes/host-b',
    marks: { labels: { rack: 'a' } },
    spec: {
      bgp: { asNumber: 64_512, ipv4Address: '192.0.2.2/24', ipv4IPIPTunnelAddr: '10.65.0.1' },
      addresses: [{ address: '192.0.2.2/24', type: 'InternalIP' }],
    },
    note: '',
  },
];

/** Runs a command that must succeed. Returns its output. */
type Command = (argv: readonly string[], input?: string) => Promise<string>;

/**
 * Creates a resource, reads it in all formats, applies the output, and deletes it. `stored` returns the value of a key
 * below the root of resources. Throws if a result differs from the expected one.
 */
export async function live(
  { kind, word, id, document, row, key, marks = {}, spec, note = '' }: ResourceLife,
  { ok, stored }: { readonly ok: Command; readonly stored: (key: string) => Promise<string> },
): Promise<void> {
  const apply = (text: string) => ok(['apply', '-f', '-'], text);
  expectText(await apply(document), `${kind} ${id} created\n${note}`);
  const value: unknown = JSON.parse(await stored(key));
  expectText(JSON.stringify(member(value, 'spec')), JSON.stringify(spec));
  const metadata = member(value, 'metadata');
  const [labels, annotations] = ['labels', 'annotations'].map((field) => member(metadata, field));
  expectText(JSON.stringify({ labels, annotations }), JSON.stringify(marks));
  expectText(String(member(metadata, 'name')), key.split('/').at(-1) ?? '');
  expectText(await apply(document), `${kind} ${id} unchanged\n${note}`);
  for (const format of ['yaml', 'json']) {
    const printed = await ok(['get', word, '-o', format]);
    expectText(await apply(printed), `${kind} ${id} unchanged\n${note}`);
  }
  const name = id.split('/').at(-1) ?? '';
  const [, line = ''] = (await ok(['get', word, name])).split('\n');
  const cells = row.filter((cell) => cell !== '').join(' ');
  expectText(line.trim().replaceAll(/ {3,}/g, ' '), cells);
  expectText(await ok(['delete', word, name]), `${kind} ${id} deleted\n`);
  const left: unknown = JSON.parse(await ok(['get', word, '-o', 'json']));
  expectText(JSON.stringify(member(left, 'items')), '[]');
}

function member(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([name]) => name === key)?.[1];
}

function expectText(actual: string, expected: string): void {
  if (actual !== expected) throw new Error(`${actual}instead of\n${expected}`);
}
