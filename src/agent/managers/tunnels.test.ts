import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Links } from '../../dataplane/tunnels/links.ts';
import { Neighbours } from '../../dataplane/tunnels/neighbours.ts';
import { FakeTunnels } from '../../dataplane/tunnels/tunnel-calls.fixture.ts';
import type { Link } from '../../dataplane/netlink/link.ts';
import { parseAddress, type IpAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { FelixConfiguration } from '../../model/kinds/felix-configuration.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { Node } from '../../model/kinds/node.ts';
import type { VxlanOptions } from '../../ruleset/tunnel-rules.ts';
import { linksWithNeighbours, ownLinks } from '../link-drivers.ts';
import { Tunnels } from './tunnels.ts';

const apiVersion = 'projectcalico.org/v3';
const node = 'host-a';

function uplink(index: number, mtuBytes: number): Link {
  return {
    index,
    name: 'eth0',
    mac: '02:00:00:00:00:02',
    mtuBytes,
    isUp: true,
    hasCarrier: true,
    leadsOut: false,
  };
}

function pool(cidr: string, vxlanMode: 'Always' | 'CrossSubnet' | 'Never' = 'Always'): IpPool {
  const spec = { cidr: parseCidr(cidr), vxlanMode };
  return { kind: 'IPPool', apiVersion, metadata: { name: 'p' }, spec };
}

function configuration(spec: FelixConfiguration['spec']): FelixConfiguration {
  return { kind: 'FelixConfiguration', apiVersion, metadata: { name: 'default' }, spec };
}

function nodeWith(name: string, spec: Node['spec']): Node {
  return { kind: 'Node', apiVersion, metadata: { name }, spec };
}

const own = nodeWith(node, {
  bgp: { ipv4Address: '192.0.2.1/24', ipv6Address: '2001:db8::1/64' },
  ipv4VXLANTunnelAddr: '10.65.0.1',
  ipv6VXLANTunnelAddr: 'fd00:65::1',
});

/** A Node as calico-node and Felix write it; Felix adds the MAC addresses of its interfaces. */
const ofFelix = nodeWith('host-b', {
  addresses: [
    { address: '192.0.2.2/24', type: 'CalicoNodeIP' },
    { address: '192.0.2.2', type: 'InternalIP' },
  ],
  bgp: { ipv4Address: '192.0.2.2/24', ipv6Address: '2001:db8::2/64', asNumber: 64_512 },
  ipv4VXLANTunnelAddr: '10.65.1.1',
  vxlanTunnelMACAddr: '66:b6:3c:2a:52:73',
  ipv6VXLANTunnelAddr: 'fd00:65::1:1',
  vxlanTunnelMACAddrV6: '66:5A:46:A5:41:8B',
});

/** The same before Felix has added them: their rule gives the addresses. */
const ofStartingFelix = nodeWith('host-b', {
  bgp: { ipv4Address: '192.0.2.2/24' },
  ipv4VXLANTunnelAddr: '10.65.1.1',
});

function setup() {
  const kernel = new FakeTunnels();
  const links = new Links(kernel, ownLinks);
  const neighbours = new Neighbours(kernel.neighbours, {
    names: linksWithNeighbours,
    indexOf: (name) => links.indexOf(name),
  });
  const sets = new Map<string, Set<string>>();
  const rules = new Map<number, VxlanOptions | undefined>();
  const ipipRules: boolean[] = [];
  const uplinks = new Map<IpAddress, Link>([
    [parseAddress('192.0.2.1'), uplink(2, 1500)],
    [parseAddress('2001:db8::1'), uplink(2, 1500)],
  ]);
  const manager = new Tunnels({
    node,
    families: [4, 6],
    kernel: {
      sets: {
        setDesired: ({ name }) => void sets.set(name, new Set()),
        deleteDesired: (name) => void sets.delete(name),
        addMember: (set, member) => void (sets.get(set) ?? assert.fail(set)).add(member),
        removeMember: (set, member) => void (sets.get(set) ?? assert.fail(set)).delete(member),
      },
      tunnels: links,
      neighbours,
      addresses: { linkOf: (address) => uplinks.get(address) },
    },
    hostRules: {
      change: (family, change) => {
        if ('vxlan' in change) rules.set(family, change.vxlan);
        if (change.ipip !== undefined) ipipRules.push(change.ipip);
      },
    },
  });
  const stored = <Value>(id: string, value: Value | undefined) =>
    value && { id, value, modRevision: 1n };
  const put = {
    pool: (id: string, value: IpPool | undefined) =>
      manager.onChange({ kind: 'IPPool', id, before: undefined, now: stored(id, value) }),
    node: (id: string, value: Node | undefined) =>
      manager.onChange({ kind: 'Node', id, before: undefined, now: stored(id, value) }),
    configuration: (id: string, value: FelixConfiguration | undefined) =>
      manager.onChange({
        kind: 'FelixConfiguration',
        id,
        before: undefined,
        now: stored(id, value),
      }),
  };
  const round = () => {
    manager.apply('reading');
    links.apply();
    neighbours.apply();
  };
  return { kernel, sets, rules, ipipRules, uplinks, manager, put, round };
}

describe('VXLAN tunnels', () => {
  test('a Node as calico-node and Felix write it gives the neighbours and forwarding entries that Felix makes', () => {
    const { kernel, sets, put, round } = setup();
    put.pool('four', pool('10.65.0.0/16'));
    put.pool('six', pool('fd00:65::/64'));
    put.node(node, own);
    put.node('host-b', ofFelix);
    round();
    assert.deepEqual(kernel.shown('vxlan.calico'), [
      '10.65.1.1 at 66:b6:3c:2a:52:73',
      '66:b6:3c:2a:52:73 to 192.0.2.2',
    ]);
    assert.deepEqual(kernel.shown('vxlan-v6.calico'), [
      '66:5a:46:a5:41:8b to 2001:db8::2',
      'fd00:65::1:1 at 66:5a:46:a5:41:8b',
    ]);
    assert.deepEqual([...(sets.get('cali40all-vxlan-net') ?? [])], ['192.0.2.2/32']);
    assert.deepEqual([...(sets.get('cali60all-vxlan-net') ?? [])], ['2001:db8::2/128']);
    put.node('host-b', ofStartingFelix);
    round();
    // sha1 of "host-b".
    const mac = '66:87:15:48:5e:7a';
    assert.deepEqual(kernel.shown('vxlan.calico'), [`10.65.1.1 at ${mac}`, `${mac} to 192.0.2.2`]);
    assert.deepEqual(kernel.shown('vxlan-v6.calico'), [], 'it has no IPv6 address any longer');
  });

  test('the interface has the settings of Felix, from its configuration and from the uplink', () => {
    const { kernel, put, round, rules } = setup();
    put.pool('four', pool('10.65.0.0/16', 'CrossSubnet'));
    put.node(node, own);
    round();
    const shown = () => kernel.links.get('vxlan.calico');
    const local = parseAddress('192.0.2.1');
    assert.deepEqual(shown()?.is, { kind: 'vxlan', vni: 4096, port: 4789, local, under: 2 });
    assert.equal(shown()?.mtuBytes, 1450);
    assert.equal(kernel.links.has('vxlan-v6.calico'), false, 'no pool needs it');
    assert.deepEqual(rules.get(4), { port: 4789, vni: 4096 });
    put.configuration('default', configuration({ vxlanVNI: 200, vxlanMTU: 1300 }));
    put.configuration('node.host-b', configuration({ vxlanVNI: 7 }));
    put.configuration(`node.${node}`, configuration({ vxlanPort: 8472 }));
    round();
    assert.deepEqual(shown()?.is, { kind: 'vxlan', vni: 200, port: 8472, local, under: 2 });
    assert.equal(shown()?.mtuBytes, 1300);
    assert.deepEqual(rules.get(4), { port: 8472, vni: 200 });
    put.configuration(`node.${node}`, configuration({ vxlanEnabled: false }));
    round();
    assert.equal(kernel.links.size, 0);
    assert.equal(rules.get(4), undefined);
  });

  test('the interface follows the MTU, the index and the address of the uplink', () => {
    const { kernel, put, round, uplinks, manager } = setup();
    put.pool('four', pool('10.65.0.0/16'));
    put.node(node, own);
    round();
    const [address, jumbo] = [parseAddress('192.0.2.1'), uplink(3, 9000)];
    uplinks.set(address, jumbo);
    const other = { ...jumbo, name: 'eth9' };
    assert.equal(manager.onEvent({ kind: 'link', link: other, isGone: false }), false);
    assert.equal(manager.onEvent({ kind: 'link', link: jumbo, isGone: false }), true);
    round();
    assert.equal(kernel.links.get('vxlan.calico')?.mtuBytes, 8950);
    uplinks.delete(address);
    const event = { linkIndex: 3, address, prefixLength: 24 };
    assert.equal(manager.onEvent({ kind: 'address', address: event, isGone: true }), true);
    round();
    assert.equal(kernel.links.get('vxlan.calico')?.mtuBytes, 8950, 'it stays meanwhile');
    assert.match(manager.failures()[0]?.why ?? '', /no interface .* 192\.0\.2\.1/);
    uplinks.set(address, uplink(3, 1500));
    assert.equal(manager.onEvent({ kind: 'address', address: event, isGone: false }), true);
    round();
    assert.equal(kernel.links.get('vxlan.calico')?.mtuBytes, 1450);
    assert.deepEqual(manager.failures(), []);
  });

  test('nodes that share an address, and hosts that are no nodes, are accepted until the last of them leaves', () => {
    const { sets, put, round } = setup();
    const members = () => [...(sets.get('cali40all-vxlan-net') ?? [])].toSorted();
    put.configuration('default', configuration({ externalNodesList: ['198.51.100.7'] }));
    put.pool('four', pool('10.65.0.0/16'));
    put.node('host-b', ofFelix);
    round();
    assert.deepEqual(members(), ['192.0.2.2/32', '198.51.100.7/32']);
    put.node('host-c', nodeWith('host-c', { ...ofFelix.spec, ipv4VXLANTunnelAddr: '10.65.2.1' }));
    put.node('host-b', undefined);
    assert.deepEqual(members(), ['192.0.2.2/32', '198.51.100.7/32']);
    put.node('host-c', undefined);
    assert.deepEqual(members(), ['198.51.100.7/32']);
  });

  test('everything is removed when no pool needs it, and comes back when one does', () => {
    const { kernel, sets, put, round, rules, manager } = setup();
    put.node('host-b', ofFelix);
    put.node(node, own);
    round();
    assert.deepEqual([kernel.journal, [...sets], manager.checks()], [[], [], []]);
    for (const [mode, isNeeded] of [
      ['Always', true],
      ['Never', false],
      ['CrossSubnet', true],
    ] as const) {
      put.pool('four', pool('10.65.0.0/16', mode));
      round();
      assert.equal(kernel.links.has('vxlan.calico'), isNeeded);
      assert.equal(kernel.shown('vxlan.calico').length, isNeeded ? 2 : 0);
      const members = sets.get('cali40all-vxlan-net');
      assert.deepEqual(members && [...members], isNeeded ? ['192.0.2.2/32'] : undefined);
      assert.equal(rules.get(4) !== undefined, isNeeded);
    }
    put.pool('four', undefined);
    round();
    assert.deepEqual([kernel.links.size, sets.size], [0, 0]);
    put.node('host-b', undefined);
    put.pool('four', pool('10.65.0.0/16'));
    round();
    assert.deepEqual(kernel.shown('vxlan.calico'), [], 'the node is gone');
    assert.match(manager.checks()[0]?.detail ?? '', /, 0 other nodes$/);
  });

  test('status shows the tunnel of each family, and that a tunnel address is missing', () => {
    const { put, round, manager } = setup();
    put.pool('four', pool('10.65.0.0/16'));
    put.pool('six', pool('fd00:65::/64'));
    put.node(node, nodeWith(node, { ...own.spec, ipv6VXLANTunnelAddr: '' }));
    put.node('host-b', ofFelix);
    round();
    const [four, six] = manager.checks();
    assert.deepEqual(four, {
      name: 'VXLAN IPv4',
      ok: true,
      detail: 'vxlan.calico 10.65.0.1, VNI 4096, port 4789, MTU 1450, 1 other node',
    });
    assert.deepEqual([six?.ok, six?.detail], [false, 'this host has no tunnel address']);
  });
});

describe('IP-in-IP tunnels', () => {
  const mode = (ipipMode: 'Always' | 'CrossSubnet' | 'Never'): IpPool => ({
    ...pool('10.65.0.0/16', 'Never'),
    spec: { cidr: parseCidr('10.65.0.0/16'), ipipMode },
  });
  const ownIpip = nodeWith(node, {
    bgp: { ipv4Address: '192.0.2.1/24', ipv4IPIPTunnelAddr: '10.65.0.1' },
  });

  test('the interface has the tunnel address and the MTU of the uplink less 20 bytes; all nodes may send', () => {
    const { kernel, sets, ipipRules, put, round, manager } = setup();
    put.configuration('default', configuration({ externalNodesList: ['198.51.100.7'] }));
    put.pool('four', mode('CrossSubnet'));
    put.node(node, ownIpip);
    put.node('host-b', ofFelix);
    put.node('host-c', nodeWith('host-c', { bgp: { ipv6Address: '2001:db8::3/64' } }));
    round();
    assert.deepEqual([...kernel.links.keys()], ['tunl0']);
    assert.equal(kernel.links.get('tunl0')?.mtuBytes, 1480);
    assert.deepEqual(kernel.journal, [
      'make tunl0',
      'configure tunl0',
      'add 10.65.0.1 as tunl0:calico',
    ]);
    assert.deepEqual(
      [...(sets.get('cali40all-hosts-net') ?? [])].toSorted(),
      ['192.0.2.2/32', '198.51.100.7/32'],
      'host-b has no tunnel of its own yet; its address is all that matters',
    );
    assert.deepEqual(ipipRules, [true]);
    assert.deepEqual(manager.checks(), [
      { name: 'IPIP IPv4', ok: true, detail: 'tunl0 10.65.0.1, MTU 1480, 1 other node' },
    ]);
    put.configuration(`node.${node}`, configuration({ ipipMTU: 1400 }));
    round();
    assert.equal(kernel.links.get('tunl0')?.mtuBytes, 1400);
  });

  test('without a pool that needs it, set, rules and address go, and the interface is set down', () => {
    const { kernel, sets, ipipRules, put, round, manager } = setup();
    put.pool('four', mode('Always'));
    put.node(node, ownIpip);
    round();
    put.pool('four', mode('Never'));
    kernel.journal.length = 0;
    round();
    assert.deepEqual(kernel.journal, ['drop 10.65.0.1', 'down tunl0']);
    assert.deepEqual([sets.size, ipipRules, manager.checks()], [0, [true, false], []]);
  });

  test('a node without a tunnel address has the interface all the same, and status says so', () => {
    const { kernel, put, round, manager } = setup();
    put.pool('four', mode('Always'));
    put.node(node, nodeWith(node, { bgp: { ipv4Address: '192.0.2.1/24' } }));
    round();
    assert.equal(kernel.links.get('tunl0')?.isUp, true);
    assert.deepEqual(
      manager.checks().map(({ name, ok, detail }) => [name, ok, detail]),
      [['IPIP IPv4', false, 'this host has no tunnel address']],
    );
  });

  test('ipipEnabled: false disables it, and status says so while a pool uses it', () => {
    const { kernel, put, round, manager } = setup();
    put.configuration('default', configuration({ ipipEnabled: false }));
    put.pool('four', mode('Always'));
    put.node(node, ownIpip);
    round();
    assert.equal(kernel.links.size, 0);
    assert.deepEqual(
      manager.checks().map(({ ok, detail, remedy }) => [ok, detail, remedy]),
      [
        [
          false,
          'an IP pool uses IPIP, and FelixConfiguration disables it on this host',
          'Remove ipipEnabled: false, or change the mode of the IP pool (calico-cnm apply).',
        ],
      ],
    );
  });
});
