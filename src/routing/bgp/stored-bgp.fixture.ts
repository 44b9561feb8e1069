import fc from 'fast-check';
import { bgpConfigurationType } from '../../model/kinds/bgp-configuration.ts';
import { bgpFilterType } from '../../model/kinds/bgp-filter.ts';
import { bgpPeerType } from '../../model/kinds/bgp-peer.ts';
import { nodeType } from '../../model/kinds/node.ts';
import { block, pool, type Case } from './bgp-cases.fixture.ts';
import { peerAnnotations } from './peer-annotations.ts';

/**
 * Resources as any client may have stored them: what the schemas accept, with values that `apply` would refuse, at and
 * beyond the limits.
 */

const apiVersion = 'projectcalico.org/v3';

/** Mostly what is right: a resource with ten wrong fields says no more than one with a single one. */
const mostly = <Value>(right: readonly Value[], wrong: readonly Value[]) =>
  fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...right) },
    { weight: 1, arbitrary: fc.constantFrom(...wrong) },
  );
const integers = mostly(
  [1, 2, 7, 64, 200],
  [-1, 0, 255, 256, 4095, 4096, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32],
);
const asNumbers = mostly<number | string>(
  [64_512, 65_001, '64512.1', 2 ** 32 - 2],
  [0, 1, 23_456, 65_535, 65_536, 2 ** 32 - 1],
);
const wordOf = (...right: readonly string[]) => mostly(['', ...right], ['loud', 'x"y', 'a b']);
const times = mostly(['', '1s', '90s', '1m30s', '1h'], ['0s', '2h', '100h', '0.4s', 'soon']);
const addresses = mostly(
  [
    '192.0.2.2',
    '192.0.2.254',
    '198.51.100.3',
    '2001:db8::9',
    '192.0.2.253:1790',
    '[2001:db8::8]:1790',
  ],
  [
    '192.0.2.1',
    '0.0.0.0',
    '255.255.255.255',
    '127.0.0.1',
    '224.0.0.5',
    'fe80::1',
    '::',
    '192.0.2.253:0',
    'rack',
    '',
  ],
);
const communities = mostly(
  ['65001:1', '65535:65535', '1:2:3', 'named'],
  ['4294967295:1:1', '0:0', '70000:1', 'other', ''],
);
const nets = fc.constantFrom(
  '0.0.0.0/0',
  '10.64.0.0/16',
  '10.64.0.0/26',
  '10.64.0.1/32',
  '::/0',
  'fd00:64::/48',
  'fd00:64::/122',
);
const selectors = mostly(['', 'all()', "rack == '1'", 'has(rr)'], ['has(']);
const some = <Value>(value: fc.Arbitrary<Value>) => fc.array(value, { maxLength: 3 });
const record = <Model>(model: { [K in keyof Model]: fc.Arbitrary<Model[K]> }) =>
  fc.record(model, { requiredKeys: [] });

const secret = fc.constantFrom(
  { secretKeyRef: { name: 'bgp', key: 'rack' } },
  { secretKeyRef: { name: '../x', key: '' } },
  {},
);

const filterRule = fc.record({ action: fc.constantFrom('Accept', 'Reject') }).chain((action) =>
  record({
    cidr: nets,
    prefixLength: record({
      min: fc.integer({ min: 0, max: 128 }),
      max: fc.integer({ min: 0, max: 128 }),
    }),
    source: mostly(['', 'RemotePeers'], ['Nobody']),
    interface: fc.constantFrom(
      '',
      'eth0',
      'cali*',
      '*.cali',
      'eth0;',
      "a'b",
      '[a-',
      'x'.repeat(40),
    ),
    matchOperator: fc.constantFrom('Equal', 'NotEqual', 'In', 'NotIn', ''),
    peerType: fc.constantFrom('eBGP', 'iBGP', ''),
    communities: fc.record({ values: some(communities) }),
    asPathPrefix: some(asNumbers),
    priority: integers,
    operations: some(
      fc.oneof(
        communities.map((value) => ({ addCommunity: { value } })),
        some(asNumbers).map((prefix) => ({ prependASPath: { prefix } })),
        integers.map((value) => ({ setPriority: { value } })),
        fc.constant({}),
      ),
    ),
  }).map((rest) => ({ ...rest, ...action })),
);

const peerSpec = record({
  node: fc.constantFrom('', 'a', 'b', 'none'),
  nodeSelector: selectors,
  peerIP: addresses,
  asNumber: asNumbers,
  localASNumber: asNumbers,
  peerSelector: selectors,
  keepOriginalNextHop: fc.boolean(),
  nextHopMode: wordOf('Auto', 'Self', 'Keep'),
  password: secret,
  sourceAddress: wordOf('UseNodeIP', 'None'),
  maxRestartTime: times,
  keepaliveTime: times,
  numAllowedLocalASNumbers: integers,
  ttlSecurity: integers,
  reachableBy: addresses,
  filters: some(mostly(['one', 'two'], ['none'])),
  localWorkloadSelector: mostly([''], ['all()']),
  reversePeering: wordOf('Auto', 'Manual'),
});
const annotations = record({
  [peerAnnotations.bfd]: mostly(['on', 'graceful'], ['off']),
  [peerAnnotations.bfdHops]: mostly(['one', 'several'], ['x']),
  [peerAnnotations.maxPrefixes]: mostly(['1', '100000'], ['0', '1e9', '5000000000', '-3', 'x']),
});

const configurationSpec = record({
  logSeverityScreen: wordOf('Info', 'Debug', 'None'),
  nodeToNodeMeshEnabled: fc.boolean(),
  asNumber: asNumbers,
  communities: some(fc.record({ name: fc.constantFrom('named', 'other'), value: communities })),
  prefixAdvertisements: some(record({ cidr: nets, communities: some(communities) })),
  listenPort: fc.constantFrom(0, 1, 179, 1790, 65_535),
  nodeMeshPassword: secret,
  nodeMeshMaxRestartTime: times,
  bindMode: wordOf('None', 'NodeIP'),
  ignoredInterfaces: some(mostly(['eth1', 'tap*'], ['a"b', 'x; y', '', '*'])),
  programClusterRoutes: wordOf('Enabled', 'Disabled'),
  ipv4NormalRoutePriority: integers,
  ipv6NormalRoutePriority: integers,
});

const nodeSpec = (n: number) =>
  record({
    bgp: record({
      asNumber: asNumbers,
      ipv4Address: mostly(
        [`192.0.2.${n}/24`],
        ['', '192.0.2.2/24', '198.51.100.3', '0.0.0.0/0', 'x', '127.0.0.1/8'],
      ),
      ipv6Address: mostly([`2001:db8::${n}/64`], ['', '2001:db8::2/64', 'fe80::7/64', 'x']),
      routeReflectorClusterID: mostly(['', '', '244.0.0.1'], ['0.0.0.0', 'one', '2001:db8::1']),
    }),
  });

const metadata = (name: string, more: object = {}) => ({ name, ...more });

/** What a node's BIRD is to do, as stored. */
export const storedBgp: fc.Arbitrary<Case> = fc
  .record({
    specs: fc.tuple(nodeSpec(1), nodeSpec(2), nodeSpec(3)),
    labels: fc.constantFrom({ rack: '1' }, { rr: '' }, {}),
    ofAll: configurationSpec,
    ofNode: configurationSpec,
    peers: fc.array(fc.tuple(peerSpec, annotations), { maxLength: 5 }),
    filters: fc.tuple(
      record({ importV4: some(filterRule), exportV4: some(filterRule) }),
      record({ importV6: some(filterRule), exportV6: some(filterRule) }),
    ),
  })
  .map(({ specs, labels, ofAll, ofNode, peers, filters }): Case => ({
    nodes: ['a', 'b', 'c'].map((name, index) =>
      nodeType.schema.parse({
        kind: 'Node',
        apiVersion,
        metadata: metadata(name, { labels }),
        spec: specs[index],
      }),
    ),
    configurations: [['default', ofAll] as const, ['node.a', ofNode] as const].map(([name, spec]) =>
      bgpConfigurationType.schema.parse({
        kind: 'BGPConfiguration',
        apiVersion,
        metadata: metadata(name),
        spec,
      }),
    ),
    peers: peers.map(([spec, notes], index) =>
      bgpPeerType.schema.parse({
        kind: 'BGPPeer',
        apiVersion,
        metadata: metadata(`p${index}`, { annotations: notes }),
        spec,
      }),
    ),
    filters: filters.map((spec, index) =>
      bgpFilterType.schema.parse({
        kind: 'BGPFilter',
        apiVersion,
        metadata: metadata(index === 0 ? 'one' : 'two'),
        spec,
      }),
    ),
    pools: [pool('main', '10.64.0.0/16'), pool('six', 'fd00:64::/48')],
    blocks: [block('10.64.1.0/26', 'a'), block('fd00:64::/122', 'a')],
    passwords: { 'bgp/rack': 'secret' },
  }));
