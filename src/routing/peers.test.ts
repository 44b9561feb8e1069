import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCidr } from '../ip/cidr.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import type { Node } from '../model/kinds/node.ts';
import { peerOf, reachOf, vtepMac } from './peers.ts';

const apiVersion = 'projectcalico.org/v3';

function node(name: string, spec: Node['spec']): Node {
  return { kind: 'Node', apiVersion, metadata: { name }, spec };
}

function pool(cidr: string, modes: Pick<IpPool['spec'], 'vxlanMode' | 'ipipMode'> = {}): IpPool {
  return {
    kind: 'IPPool',
    apiVersion,
    metadata: { name: 'p' },
    spec: { cidr: parseCidr(cidr), ...modes },
  };
}

describe('peer', () => {
  test('has the addresses of its Node, and a subnet of one address without a prefix length', () => {
    const { underlay, ends } = peerOf(
      node('a', { bgp: { ipv4Address: '172.16.0.11/24', ipv6Address: 'fd00::11' } }),
    );
    assert.deepEqual(underlay[4], { address: '172.16.0.11', subnet: '172.16.0.0/24' });
    assert.deepEqual(underlay[6], { address: 'fd00::11', subnet: 'fd00::11/128' });
    assert.deepEqual(ends, {
      vxlan4: undefined,
      vxlan6: undefined,
      // Packets of IP-in-IP are sent to the node's own address, whether it has a tunnel address or not.
      ipip4: { underlay: '172.16.0.11' },
    });
  });

  test('has no address where the Node has a wrong one', () => {
    for (const ipv4Address of ['', 'x', 'fd00::1/64', '10.0.0.1/33', '10.0.0.1/x']) {
      const { underlay, ends } = peerOf(
        node('a', {
          bgp: { ipv4Address, ipv4IPIPTunnelAddr: '10.65.0.2' },
          ipv4VXLANTunnelAddr: '10.65.0.1',
        }),
      );
      assert.equal(underlay[4], undefined, ipv4Address);
      assert.deepEqual([ends.vxlan4, ends.ipip4], [undefined, undefined], ipv4Address);
    }
  });

  test('has the MAC address of its Node, or the one that Felix derives from the name', () => {
    const bgp = { ipv4Address: '172.16.0.11/24', ipv6Address: 'fd00::11/64' };
    const tunnels = { ipv4VXLANTunnelAddr: '10.65.0.1', ipv6VXLANTunnelAddr: 'fd65::1' };
    const { ends } = peerOf(
      node('remotehostname', { bgp, ...tunnels, vxlanTunnelMACAddrV6: '66:AA:00:00:00:01' }),
    );
    assert.deepEqual(ends.vxlan4, {
      address: '10.65.0.1',
      mac: '66:3e:ca:a4:db:65',
      underlay: '172.16.0.11',
    });
    assert.deepEqual(ends.vxlan6, {
      address: 'fd65::1',
      mac: '66:aa:00:00:00:01',
      underlay: 'fd00::11',
    });
    // Source of the names with their addresses: felix/calc/states_for_test.go.
    assert.equal(vtepMac('remotehostname2', 4), '66:40:18:59:1f:16');
    assert.notEqual(vtepMac('remotehostname2', 6), '66:40:18:59:1f:16');
    const wrong = peerOf(node('a', { bgp, ...tunnels, vxlanTunnelMACAddr: 'none' }));
    assert.equal(wrong.ends.vxlan4, undefined);
  });
});

test('a peer has the IPIP tunnel address of its Node', () => {
  const of = (ipv4IPIPTunnelAddr: string) =>
    peerOf(node('a', { bgp: { ipv4Address: '172.16.0.11/24', ipv4IPIPTunnelAddr } })).ends.ipip4;
  assert.deepEqual(of('10.65.0.1'), { underlay: '172.16.0.11', address: '10.65.0.1' });
  for (const none of ['', 'x', 'fd00::1']) assert.deepEqual(of(none), { underlay: '172.16.0.11' });
});

describe('reach', () => {
  const own = peerOf(
    node('own', {
      bgp: { ipv4Address: '172.16.0.1/24', ipv6Address: 'fd00::1/64' },
      ipv4VXLANTunnelAddr: '10.65.0.1',
      ipv6VXLANTunnelAddr: 'fd65::1',
    }),
  );
  const near = peerOf(
    node('near', {
      bgp: { ipv4Address: '172.16.0.2/24', ipv6Address: 'fd00::2/64' },
      ipv4VXLANTunnelAddr: '10.65.1.1',
      ipv6VXLANTunnelAddr: 'fd65::1:1',
    }),
  );
  const far = peerOf(
    node('far', {
      bgp: { ipv4Address: '172.16.9.2/24', ipv6Address: 'fd00:9::2/64' },
      ipv4VXLANTunnelAddr: '10.65.2.1',
      ipv6VXLANTunnelAddr: 'fd65::2:1',
    }),
  );
  const why = (...args: Parameters<typeof reachOf>) => {
    const reach = reachOf(...args);
    assert.ok(reach.by === 'none', JSON.stringify(reach));
    return `${reach.why}. ${reach.remedy}`;
  };

  test('is a route within a subnet, except in a pool that is always tunneled', () => {
    const modes = ['Never', '', 'CrossSubnet', undefined] as const;
    for (const vxlanMode of modes) {
      const mode = vxlanMode === undefined ? {} : { vxlanMode };
      assert.deepEqual(reachOf(pool('10.65.0.0/16', mode), own, near), {
        by: 'direct',
        gateway: '172.16.0.2',
      });
      assert.deepEqual(reachOf(pool('fd65::/48', mode), own, near), {
        by: 'direct',
        gateway: 'fd00::2',
      });
    }
    assert.deepEqual(reachOf(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), own, near), {
      by: 'direct',
      gateway: '172.16.0.2',
    });
    assert.deepEqual(reachOf(pool('fd65::/48', { vxlanMode: 'Always' }), own, near), {
      by: 'vxlan',
      gateway: 'fd65::1:1',
    });
  });

  test('is a tunnel over a router, in the modes with one', () => {
    for (const vxlanMode of ['Always', 'CrossSubnet'] as const) {
      assert.deepEqual(reachOf(pool('10.65.0.0/16', { vxlanMode }), own, far), {
        by: 'vxlan',
        gateway: '10.65.2.1',
      });
    }
  });

  test('with IP-in-IP is by the address of the node itself, and needs no tunnel address of it', () => {
    const always = pool('10.65.0.0/16', { ipipMode: 'Always' });
    assert.deepEqual(reachOf(always, own, near), { by: 'ipip', gateway: '172.16.0.2' });
    const across = pool('10.65.0.0/16', { ipipMode: 'CrossSubnet', vxlanMode: 'Never' });
    assert.deepEqual(reachOf(across, own, far), { by: 'ipip', gateway: '172.16.9.2' });
  });

  test('is missing for a reason, and with a remedy', () => {
    const plain = pool('10.65.0.0/16');
    const tunneled = pool('10.65.0.0/16', { vxlanMode: 'CrossSubnet' });
    const bare = peerOf(node('bare', {}));
    const noTunnel = peerOf(node('new', { bgp: { ipv4Address: '172.16.9.3/24' } }));
    assert.equal(
      why(plain, own, far),
      'IP pool p has no encapsulation, and node far (172.16.9.2) is outside the subnet of this host, 172.16.0.0/24. Set vxlanMode of IP pool p to CrossSubnet, or route it on your routers.',
    );
    assert.equal(
      why(pool('fd65::/48', { ipipMode: 'Always' }), own, near),
      'IP pool p has ipipMode Always, and IP-in-IP carries IPv4 only. Set ipipMode of IP pool p to Never and vxlanMode to Always.',
    );
    assert.match(why(plain, own, bare), /^node bare has no IPv4 address\./);
    assert.match(why(plain, bare, far), /^this host has no IPv4 address\./);
    assert.match(why(plain, undefined, far), /^this host has no IPv4 address\./);
    assert.match(why(plain, own, { ...own, name: 'clone' }), /^node clone has the address of this/);
    assert.match(why(tunneled, own, noTunnel), /^node new has no IPv4 VXLAN tunnel address yet\./);
    assert.match(why(tunneled, noTunnel, own), /^this host has no IPv4 VXLAN tunnel address yet\./);
  });
});
