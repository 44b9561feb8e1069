import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { BriefBlock } from '../../model/briefs.ts';
import type { BgpConfiguration } from '../../model/kinds/bgp-configuration.ts';
import type { BgpFilter } from '../../model/kinds/bgp-filter.ts';
import type { BgpPeer } from '../../model/kinds/bgp-peer.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { drainAnnotation, type Node } from '../../model/kinds/node.ts';
import type { BgpInputs } from './bgp-inputs.ts';

/** Resources for BGP, and the node whose configuration is rendered. */

const apiVersion = 'projectcalico.org/v3';

export function node(
  name: string,
  bgp: NonNullable<Node['spec']['bgp']>,
  labels: Readonly<Record<string, string>> = {},
): Node {
  return { kind: 'Node', apiVersion, metadata: { name, labels }, spec: { bgp } };
}

export function pool(name: string, cidr: string, spec: Omit<IpPool['spec'], 'cidr'> = {}): IpPool {
  return {
    kind: 'IPPool',
    apiVersion,
    metadata: { name },
    spec: { ...spec, cidr: parseCidr(cidr) },
  };
}

export function configuration(name: string, spec: BgpConfiguration['spec']): BgpConfiguration {
  return { kind: 'BGPConfiguration', apiVersion, metadata: { name }, spec };
}

export function peer(
  name: string,
  spec: BgpPeer['spec'],
  annotations: Readonly<Record<string, string>> = {},
): BgpPeer {
  return { kind: 'BGPPeer', apiVersion, metadata: { name, annotations }, spec };
}

export function filter(name: string, spec: BgpFilter['spec']): BgpFilter {
  return { kind: 'BGPFilter', apiVersion, metadata: { name }, spec };
}

export function block(
  cidr: string,
  host: string | undefined,
  borrowed: Readonly<Record<string, string>> = {},
): BriefBlock {
  return {
    cidr: parseCidr(cidr),
    host,
    claimedAt: undefined,
    held: 0n,
    hasFree: true,
    isShared: false,
    borrowed: Object.entries(borrowed).map(([address, borrower]) => ({
      address: parseAddress(address),
      node: borrower,
    })),
  };
}

type Named = { readonly metadata: { readonly name: string } };

function byName<Value extends Named>(values: readonly Value[]): ReadonlyMap<string, Value> {
  return new Map(values.map((value) => [value.metadata.name, value]));
}

/** Resources of a case; what is missing is as in `mesh`. */
export interface Case {
  readonly node?: string;
  readonly nodes?: readonly Node[];
  readonly configurations?: readonly BgpConfiguration[];
  readonly peers?: readonly BgpPeer[];
  readonly filters?: readonly BgpFilter[];
  readonly pools?: readonly IpPool[];
  readonly blocks?: readonly BriefBlock[];
  readonly passwords?: Readonly<Record<string, string>>;
  /** The networks of the host. */
  readonly connected?: readonly string[];
}

/** The nodes of a case without others. */
export const three: readonly Node[] = [
  node('a', { ipv4Address: '192.0.2.1/24' }, { rack: '1' }),
  node('b', { ipv4Address: '192.0.2.2/24' }, { rack: '1' }),
  node('c', { ipv4Address: '198.51.100.3/24' }, { rack: '2' }),
];

export function inputsOf(given: Case): BgpInputs {
  const passwords = new Map(Object.entries(given.passwords ?? {}));
  return {
    node: given.node ?? 'a',
    nodes: byName(given.nodes ?? three),
    configurations: byName(given.configurations ?? [configuration('default', {})]),
    peers: byName(given.peers ?? []),
    filters: byName(given.filters ?? []),
    pools: byName(given.pools ?? [pool('main', '10.65.0.0/16')]),
    blocks: given.blocks ?? [block('10.65.1.0/26', 'a')],
    connected: (given.connected ?? ['192.0.2.0/24']).map((net) => parseCidr(net)),
    passwordOf: ({ name, key }) => {
      const password = passwords.get(`${name}/${key}`);
      const why = `password file ${name}/${key} does not exist on this node`;
      return password === undefined ? { password, why } : { password };
    },
  };
}

const rack = { peerIP: '192.0.2.254', asNumber: 65_001 } as const;

/** By name of the golden file. */
export const cases: Readonly<Record<string, Case>> = {
  mesh: {},
  'mesh-options': {
    configurations: [
      configuration('default', {
        asNumber: 64_600,
        listenPort: 1790,
        logSeverityScreen: 'Warning',
        nodeMeshPassword: { secretKeyRef: { name: 'bgp', key: 'mesh' } },
        nodeMeshMaxRestartTime: '1m30s',
        bindMode: 'NodeIP',
        ignoredInterfaces: ['eth1', 'tap*'],
        ipv4NormalRoutePriority: 2000,
      }),
      configuration('node.b', { listenPort: 1791 }),
      configuration('node.a', { logSeverityScreen: 'Debug' }),
    ],
    passwords: { 'bgp/mesh': 'secret of the mesh' },
  },
  'mesh-as-numbers': {
    nodes: [
      node('a', { ipv4Address: '192.0.2.1/24', asNumber: 65_010 }),
      node('b', { ipv4Address: '192.0.2.2/24', asNumber: 65_011 }),
      node('c', { ipv4Address: '198.51.100.3/24' }),
    ],
  },
  'dual-stack': {
    nodes: [
      node('a', { ipv4Address: '192.0.2.1/24', ipv6Address: '2001:db8::1/64' }),
      node('b', { ipv4Address: '192.0.2.2/24', ipv6Address: '2001:db8::2/64' }),
    ],
    pools: [pool('main', '10.65.0.0/16'), pool('six', 'fd00:65::/48')],
    blocks: [block('10.65.1.0/26', 'a'), block('fd00:65::/122', 'a')],
  },
  'ipv6-only': {
    nodes: [
      node('a', { ipv6Address: '2001:db8::1/64' }),
      node('b', { ipv6Address: '2001:db8::2/64' }),
    ],
    pools: [pool('six', 'fd00:65::/48')],
    blocks: [block('fd00:65::/122', 'a')],
  },
  reflector: {
    node: 'b',
    nodes: [
      node('a', { ipv4Address: '192.0.2.1/24' }),
      node('b', { ipv4Address: '192.0.2.2/24', routeReflectorClusterID: '1.0.0.1' }, { rr: '' }),
      node('c', { ipv4Address: '192.0.2.3/24' }),
      node('d', { ipv4Address: '192.0.2.4/24', routeReflectorClusterID: '1.0.0.1' }, { rr: '' }),
      node('e', { ipv4Address: '192.0.2.5/24', routeReflectorClusterID: '1.0.0.2' }, { rr: '' }),
    ],
    configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
    peers: [peer('reflectors', { nodeSelector: 'all()', peerSelector: 'has(rr)' })],
    blocks: [],
  },
  'reflector-client': {
    nodes: [
      node('a', { ipv4Address: '192.0.2.1/24' }),
      node('b', { ipv4Address: '192.0.2.2/24', routeReflectorClusterID: '1.0.0.1' }, { rr: '' }),
      node('c', { ipv4Address: '192.0.2.3/24' }),
    ],
    configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
    peers: [peer('reflectors', { nodeSelector: '!has(rr)', peerSelector: 'has(rr)' })],
  },
  'peer-options': {
    configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
    peers: [
      peer('plain', { peerIP: '192.0.2.251', asNumber: 64_512 }),
      peer('rack', {
        ...rack,
        node: 'a',
        password: { secretKeyRef: { name: 'bgp', key: 'rack' } },
        sourceAddress: 'None',
        maxRestartTime: '60s',
        keepaliveTime: '10s',
        numAllowedLocalASNumbers: 2,
        ttlSecurity: 1,
        nextHopMode: 'Self',
        localASNumber: 65_100,
      }),
      peer('port', { peerIP: '192.0.2.253:1790', asNumber: 65_002, nodeSelector: 'rack == "1"' }),
      peer('keep', { peerIP: '192.0.2.252', asNumber: 65_003, keepOriginalNextHop: true }),
      peer('far', { peerIP: '203.0.113.1', asNumber: 65_004, reachableBy: '192.0.2.254' }),
      peer('other-rack', { peerIP: '192.0.2.250', asNumber: 65_005, nodeSelector: 'rack == "2"' }),
    ],
    passwords: { 'bgp/rack': 'of the rack' },
  },
  bfd: {
    configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
    peers: [
      peer('rack', rack, { 'docker.projectcalico.org/bfd': 'on' }),
      peer(
        'far',
        { peerIP: '203.0.113.1', asNumber: 65_001 },
        {
          'docker.projectcalico.org/bfd': 'graceful',
          'docker.projectcalico.org/max-prefixes': '500',
        },
      ),
    ],
  },
  filters: {
    configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
    peers: [
      peer('rack', {
        ...rack,
        filters: ['first', 'second.of-a-name-that-is-longer-than-a-symbol'],
      }),
    ],
    filters: [
      filter('first', {
        exportV4: [
          {
            action: 'Accept',
            matchOperator: 'In',
            cidr: parseCidr('10.65.0.0/16'),
            source: 'RemotePeers',
          },
          {
            action: 'Accept',
            matchOperator: 'In',
            cidr: parseCidr('10.65.0.0/16'),
            prefixLength: { min: 20, max: 28 },
            peerType: 'eBGP',
            operations: [
              { addCommunity: { value: '65001:100' } },
              { addCommunity: { value: '65001:1:2' } },
              { prependASPath: { prefix: [65_100, 65_101] } },
              { setPriority: { value: 512 } },
            ],
          },
          { action: 'Reject', matchOperator: 'NotEqual', cidr: parseCidr('10.65.1.0/26') },
          { action: 'Reject', interface: '*.calico' },
          { action: 'Reject' },
        ],
        importV4: [
          { action: 'Reject', matchOperator: 'NotIn', cidr: parseCidr('172.16.0.0/12') },
          { action: 'Accept', communities: { values: ['65001:200'] }, peerType: 'iBGP' },
          { action: 'Accept', communities: { values: ['65001:2:3'] } },
          { action: 'Reject', asPathPrefix: [65_000, 65_001] },
          { action: 'Accept', priority: 512, matchOperator: 'Equal', cidr: parseCidr('0.0.0.0/0') },
        ],
        importV6: [{ action: 'Reject', matchOperator: 'In', cidr: parseCidr('2001:db8::/32') }],
      }),
      filter('second.of-a-name-that-is-longer-than-a-symbol', { importV4: [{ action: 'Reject' }] }),
      filter('unused', { importV4: [{ action: 'Reject' }] }),
    ],
  },
  draining: {
    nodes: [
      {
        ...node('a', { ipv4Address: '192.0.2.1/24', routeReflectorClusterID: '1.0.0.1' }),
        metadata: { name: 'a', annotations: { [drainAnnotation]: 'on' } },
      },
      node('b', { ipv4Address: '192.0.2.2/24' }),
    ],
    peers: [peer('reflectors', { nodeSelector: 'all()', peerSelector: 'all()' })],
  },
  advertisements: {
    configurations: [
      configuration('default', {
        communities: [
          { name: 'internal', value: '64512:10' },
          { name: 'large', value: '64512:1:2' },
        ],
        prefixAdvertisements: [
          { cidr: parseCidr('10.65.0.0/16'), communities: ['internal', 'large', '64512:20'] },
          { cidr: parseCidr('fd00:65::/48'), communities: ['internal'] },
        ],
      }),
    ],
    pools: [pool('main', '10.65.0.0/16'), pool('six', 'fd00:65::/48')],
  },
  pools: {
    pools: [
      pool('plain', '10.65.0.0/16'),
      pool('vxlan', '10.66.0.0/16', { vxlanMode: 'CrossSubnet' }),
      pool('ipip', '10.67.0.0/16', { ipipMode: 'Always' }),
      pool('private', '10.68.0.0/16', { disableBGPExport: true }),
    ],
    blocks: [
      block('10.65.1.0/26', 'a', { '10.65.1.5': 'b' }),
      block('10.65.2.0/26', 'b', { '10.65.2.7': 'a', '10.65.2.8': 'c' }),
      block('10.66.1.0/26', 'a'),
      block('10.69.1.0/26', 'a'),
    ],
  },
};
