import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  block,
  cases,
  configuration,
  filter,
  inputsOf,
  node,
  peer,
  pool,
  three,
  type Case,
} from './bgp-cases.fixture.ts';
import { cidrCovers, parseCidr } from '../../ip/cidr.ts';
import { bgpModel, endedSessions, routerIdOf } from './bgp-model.ts';

const meshOff = configuration('default', { nodeToNodeMeshEnabled: false });

function problemsOf(given: Case): readonly string[] {
  return bgpModel(inputsOf(given)).problems.map(({ resource, field, why }) =>
    [resource, field, why].filter((part) => part !== '').join(' '),
  );
}

function sessionNames(given: Case): readonly string[] {
  return bgpModel(inputsOf(given)).sessions.map(({ name }) => name);
}

test('a part that cannot be used is named, and the rest stands', () => {
  const rack = { peerIP: '192.0.2.254', asNumber: 65_001 };
  const given: Case = {
    configurations: [meshOff],
    peers: [
      peer('a-own', { node: 'a', peerIP: '192.0.2.1', asNumber: 65_001 }),
      peer('b-first', rack),
      peer('c-second', { ...rack, asNumber: 65_002 }),
      peer('d-no-as', { peerIP: '192.0.2.253' }),
      peer('e-password', {
        peerIP: '192.0.2.252',
        asNumber: 65_001,
        password: { secretKeyRef: { name: 'bgp', key: 'rack' } },
      }),
      peer('f-filter', { peerIP: '192.0.2.251', asNumber: 65_001, filters: ['broken'] }),
      peer('g-missing', { peerIP: '192.0.2.250', asNumber: 65_001, filters: ['missing'] }),
      peer('h-v6', { peerIP: '2001:db8::fe', asNumber: 65_001 }),
      peer('i-workload', { localWorkloadSelector: 'all()', asNumber: 65_001 }),
      peer('j-time', { peerIP: '192.0.2.249', asNumber: 65_001, maxRestartTime: 'long' }),
      peer('k-selector', { peerSelector: 'has(' }),
    ],
    filters: [filter('broken', { importV4: [{ action: 'Reject', source: 'Nobody' }] })],
  };
  assert.deepEqual(problemsOf(given), [
    'BGPPeer a-own spec.peerIP is the address of the node itself',
    'BGPPeer c-second spec.peerIP BGPPeer b-first has a session with 192.0.2.254 already; this one is not used',
    'BGPPeer d-no-as spec.asNumber is missing, and 192.0.2.253 is not a node',
    'BGPPeer e-password spec.password password file bgp/rack does not exist on this node',
    'BGPPeer g-missing spec.filters BGPFilter missing does not exist',
    'BGPPeer h-v6 spec.peerIP this node has no IPv6 address for a session with 2001:db8::fe',
    'BGPPeer i-workload spec.localWorkloadSelector BGP with containers is not supported',
    'BGPPeer j-time spec.maxRestartTime "long" is not a duration such as 120s',
    'BGPPeer k-selector selector "has(": syntax error at character 4: expected ==, !=, in, not in, contains, starts with or ends with after a label',
    'BGPFilter broken spec.importV4.0: source: "Nobody" is unknown; its peers are not connected',
  ]);
  assert.deepEqual(sessionNames(given), ['Global_192_0_2_254']);
});

test('no session of several is configured without its password, filter or in-range values', () => {
  const secretKeyRef = { name: 'bgp', key: 'absent' };
  const all = { nodeSelector: 'all()', peerSelector: 'all()' };
  const problems: readonly (readonly [Case, string])[] = [
    [
      { configurations: [configuration('default', { nodeMeshPassword: { secretKeyRef } })] },
      'BGPConfiguration default spec.nodeMeshPassword password file bgp/absent does not exist on this node',
    ],
    [
      { peers: [peer('all', { ...all, password: { secretKeyRef } })] },
      'BGPPeer all spec.password password file bgp/absent does not exist on this node',
    ],
    [
      { peers: [peer('all', { ...all, filters: ['missing'] })] },
      'BGPPeer all spec.filters BGPFilter missing does not exist',
    ],
    [
      { peers: [peer('all', { ...all, maxRestartTime: '2h' })] },
      'BGPPeer all spec.maxRestartTime must be from 0s to 4095s',
    ],
    [
      { peers: [peer('all', { ...all, keepaliveTime: '5m' })] },
      'BGPPeer all spec.keepaliveTime must be from 1s to 240s',
    ],
    [
      { peers: [peer('all', { ...all, ttlSecurity: 256 })] },
      'BGPPeer all spec.ttlSecurity must be an integer from 1 to 255',
    ],
    [
      { peers: [peer('all', { ...all, nextHopMode: 'Own' })] },
      'BGPPeer all spec.nextHopMode "Own" is none of Auto, Self, Keep',
    ],
    [
      { configurations: [configuration('default', { asNumber: 0 })] },
      'BGPConfiguration default spec.asNumber that of this node is 0, which is reserved',
    ],
  ];
  for (const [given, problem] of problems) {
    const withoutMesh = given.peers === undefined ? given : { configurations: [meshOff], ...given };
    assert.deepEqual(sessionNames(withoutMesh), [], problem);
    assert.equal(problemsOf(withoutMesh)[0], problem);
  }
});

test('values of BGPConfiguration that mean nothing are named, and the default is used', () => {
  const given: Case = {
    configurations: [
      configuration('default', {
        logSeverityScreen: 'Loud',
        ignoredInterfaces: ['eth1', 'a"b'],
        ipv4NormalRoutePriority: -1,
      }),
    ],
  };
  assert.deepEqual(problemsOf(given), [
    'BGPConfiguration default spec.logSeverityScreen "Loud" is none of Debug, Info, Warning, Error, Fatal, None',
    'BGPConfiguration default spec.ignoredInterfaces "a"b" is not a name or pattern',
    'BGPConfiguration default spec.ipv4NormalRoutePriority must be an integer from 1 to 2147483646',
  ]);
  const { logSeverity, ignoredInterfaces, families } = bgpModel(inputsOf(given));
  assert.deepEqual([logSeverity, ignoredInterfaces, families[4].metric], ['Info', ['eth1'], 1024]);
});

test('of two ends exactly one connects, and both ends of a selected pair have the session', () => {
  const { nodes = [], peers = [], configurations = [] } = cases['reflector-client'] ?? {};
  const sessions = nodes.flatMap(({ metadata: { name } }) =>
    bgpModel(inputsOf({ node: name, nodes, peers, configurations })).sessions.map(
      ({ peerNode, isPassive, clusterId }) => ({ from: name, to: peerNode, isPassive, clusterId }),
    ),
  );
  assert.deepEqual(sessions, [
    { from: 'a', to: 'b', isPassive: true, clusterId: undefined },
    { from: 'b', to: 'a', isPassive: false, clusterId: '1.0.0.1' },
    { from: 'b', to: 'c', isPassive: true, clusterId: '1.0.0.1' },
    { from: 'c', to: 'b', isPassive: false, clusterId: undefined },
  ]);
});

test('BFD is of one hop with a peer on a network of the host, unless an annotation says otherwise', () => {
  const bfd = { 'docker.projectcalico.org/bfd': 'on' };
  const several = { ...bfd, 'docker.projectcalico.org/bfd-hops': 'several' };
  const one = { ...bfd, 'docker.projectcalico.org/bfd-hops': 'one' };
  const asNumber = 65_001;
  const given: Case = {
    configurations: [meshOff],
    // The second is on the network of an interface that does not have the node's address.
    connected: ['192.0.2.0/24', '198.18.0.0/24'],
    peers: [
      peer('a', { peerIP: '192.0.2.254', asNumber }, bfd),
      peer('b', { peerIP: '198.18.0.1', asNumber, sourceAddress: 'None', ttlSecurity: 1 }, bfd),
      peer('c', { peerIP: '198.18.0.2', asNumber }, several),
      peer('d', { peerIP: '198.18.0.3', asNumber, ttlSecurity: 2 }, bfd),
      peer('e', { peerIP: '203.0.113.1', asNumber }, bfd),
      peer('f', { peerIP: '203.0.113.2', asNumber, sourceAddress: 'None' }, bfd),
      peer('g', { peerIP: '203.0.113.3', asNumber }, one),
      peer('h', { peerIP: '198.18.0.4', asNumber }),
    ],
  };
  assert.deepEqual(
    bgpModel(inputsOf(given)).sessions.map(({ peer: to, isDirect }) => [to, isDirect]),
    [
      ['192.0.2.254', true],
      ['198.18.0.1', true],
      ['198.18.0.2', false],
      ['198.18.0.3', false],
      ['203.0.113.1', false],
      ['198.18.0.4', false],
    ],
  );
  assert.deepEqual(problemsOf(given), [
    'BGPPeer f spec.sourceAddress is None, and BFD of several hops needs the address of the node',
    'BGPPeer g metadata.annotations.docker.projectcalico.org/bfd-hops is one, and the peer is on no network of this host',
  ]);
});

test('the order in which resources are read has no effect', () => {
  const reversed = (given: Case): Case => ({
    ...given,
    nodes: (given.nodes ?? three).toReversed(),
    peers: (given.peers ?? []).toReversed(),
    filters: (given.filters ?? []).toReversed(),
    pools: (given.pools ?? [pool('main', '10.65.0.0/16')]).toReversed(),
    blocks: (given.blocks ?? [block('10.65.1.0/26', 'a')]).toReversed(),
  });
  for (const [name, given] of Object.entries(cases)) {
    assert.deepEqual(
      JSON.stringify(bgpModel(inputsOf(reversed(given)))),
      JSON.stringify(bgpModel(inputsOf(given))),
      name,
    );
  }
});

test('a route reflector is not in the mesh, and one without reversed sessions has none', () => {
  const { nodes = [] } = cases['reflector-client'] ?? {};
  assert.deepEqual(sessionNames({ nodes }), ['Mesh_192_0_2_3']);
  assert.deepEqual(sessionNames({ nodes, node: 'b' }), []);
  const manual = peer('manual', {
    nodeSelector: '!has(rr)',
    peerSelector: 'has(rr)',
    reversePeering: 'Manual',
  });
  assert.deepEqual(sessionNames({ nodes, node: 'b', peers: [manual] }), []);
});

test('a BGPPeer of the node stands before a global one and before the mesh', () => {
  const given = {
    peers: [
      peer('global', { peerIP: '192.0.2.2', asNumber: 64_512 }),
      peer('own', { node: 'a', peerIP: '192.0.2.2', asNumber: 64_512, keepaliveTime: '7s' }),
    ],
  };
  const [first, ...others] = bgpModel(inputsOf(given)).sessions;
  assert.equal(first?.name, 'Node_192_0_2_2');
  assert.equal(first.keepaliveSeconds, 7);
  assert.deepEqual(
    others.map(({ name }) => name),
    ['Mesh_198_51_100_3'],
  );
});

test('the router ID of a node without an IPv4 address depends on its name only', () => {
  const id = routerIdOf('a', node('a', { ipv6Address: '2001:db8::1/64' }));
  assert.match(id, /^\d+\.\d+\.\d+\.\d+$/);
  assert.equal(routerIdOf('a', undefined), id);
  assert.notEqual(routerIdOf('b', undefined), id);
});

const byte = fc.integer({ min: 0, max: 255 });
const net = fc
  .tuple(fc.constantFrom(10, 192), fc.integer({ min: 64, max: 66 }), byte)
  .map(([a, b, c]) => `${a}.${b}.${c}`);

test('whatever the resources, only networks inside IP pools are announced', () => {
  const host = fc.constantFrom('a', 'b', undefined);
  const blocks = fc.array(
    fc
      .tuple(net, host, host)
      .map(([prefix, owner, borrower]) =>
        block(`${prefix}.0/26`, owner, borrower === undefined ? {} : { [`${prefix}.7`]: borrower }),
      ),
    { maxLength: 12 },
  );
  const pools = fc.uniqueArray(fc.constantFrom('10.64.0.0/16', '10.65.128.0/17', '192.65.3.0/24'));
  fc.assert(
    fc.property(blocks, pools, (some, cidrs) => {
      const given = inputsOf({ blocks: some, pools: cidrs.map((cidr) => pool('p' + cidr, cidr)) });
      const { announced, pools: exported } = bgpModel(given).families[4];
      assert.deepEqual(exported, cidrs.toSorted());
      for (const one of announced) {
        assert.ok(cidrs.some((cidr) => cidrCovers(parseCidr(cidr), one)));
        const owner = some.find(({ cidr, host: of }) => cidrCovers(cidr, one) && of === 'a');
        const isBorrowed = some.some(({ borrowed }) =>
          borrowed.some(({ address, node: of }) => `${address}/32` === one && of === 'a'),
        );
        assert.ok(owner !== undefined || isBorrowed, `${one} is not of this node`);
      }
    }),
  );
});

test('a change ends the sessions whose own options change, and no other', () => {
  const rack = { peerIP: '192.0.2.254', asNumber: 65_001 } as const;
  const start: Case = { peers: [peer('rack', rack)] };
  const ended = (now: Case) =>
    endedSessions(bgpModel(inputsOf(start)), bgpModel(inputsOf(now))).map(({ name }) => name);
  const all = ['Global_192_0_2_254', 'Mesh_192_0_2_2', 'Mesh_198_51_100_3'];
  assert.deepEqual(ended({ ...start, blocks: [] }), []);
  assert.deepEqual(
    ended({ peers: [peer('rack', { ...rack, filters: ['one'] })], filters: [filter('one', {})] }),
    [],
  );
  assert.deepEqual(
    ended({ peers: [peer('rack', { ...rack, keepaliveTime: '5s' })] }),
    all.slice(0, 1),
  );
  assert.deepEqual(ended({ ...start, configurations: [meshOff] }), all.slice(1));
  assert.deepEqual(
    ended({ ...start, configurations: [configuration('default', { bindMode: 'NodeIP' })] }),
    all,
  );
  const moved = [
    node('a', { ipv4Address: '192.0.2.9/24' }),
    node('b', { ipv4Address: '192.0.2.2/24' }),
  ];
  assert.deepEqual(ended({ ...start, nodes: moved }), all);
  const [before, after] = ['192.0.2.1/24', '192.0.2.9/24'].map((ipv4Address) =>
    bgpModel(
      inputsOf({
        nodes: [node('a', { ipv4Address })],
        peers: [peer('rack', { ...rack, sourceAddress: 'None' })],
      }),
    ),
  );
  assert.ok(before !== undefined && after !== undefined);
  assert.equal(endedSessions(before, after).length, 1, 'the router ID is of all sessions');
});
