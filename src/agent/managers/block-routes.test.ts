import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Flow } from '../../dataplane/conntrack.ts';
import type { DesiredRoute } from '../../dataplane/routes/routes.ts';
import { parseAddress, type IpFamily } from '../../ip/address.ts';
import { parseCidr, type Cidr } from '../../ip/cidr.ts';
import type { BriefBlock } from '../../model/briefs.ts';
import type { FelixConfiguration } from '../../model/kinds/felix-configuration.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { Node } from '../../model/kinds/node.ts';
import { bgpIsOff } from '../../routing/bgp/bgp-state.ts';
import { BlockRoutesManager } from './block-routes.ts';

const apiVersion = 'projectcalico.org/v3';

class Lab {
  readonly written = new Map<string, string>();
  readonly interfaces = new Map<string, string>();
  readonly manager: BlockRoutesManager;
  flows: Flow[] = [];
  birds: Cidr[] = [];

  constructor(families: readonly IpFamily[] = [4, 6]) {
    this.manager = new BlockRoutesManager({
      node: 'here',
      families,
      kernel: {
        birdRoutes: () => this.birds,
        addresses: {
          linkOf: (address) => {
            const name = this.interfaces.get(address);
            return name === undefined ? undefined : { ...link, name };
          },
        },
        conntrack: {
          flush: (_, isToFlush) => {
            const before = this.flows.length;
            this.flows = this.flows.filter((flow) => !isToFlush(flow));
            return before - this.flows.length;
          },
        },
        routes: {
          setDesired: (route) => this.written.set(route.destination, textOf(route)),
          deleteDesired: ({ destination }) => this.written.delete(destination),
        },
      },
    });
    this.setPool({ kind: 'IPPool', apiVersion, metadata: { name: 'four' }, spec: pool4 });
    this.setPool({ kind: 'IPPool', apiVersion, metadata: { name: 'six' }, spec: pool6 });
  }

  setPool(value: IpPool): void {
    const id = value.metadata.name;
    const now = { id, value, modRevision: 1n };
    this.manager.onChange({ kind: 'IPPool', id, before: undefined, now });
  }

  setNode(name: string, bgp: Node['spec']['bgp'], tunnels: Partial<Node['spec']> = {}): void {
    const spec = bgp === undefined ? tunnels : { bgp, ...tunnels };
    const value: Node = { kind: 'Node', apiVersion, metadata: { name }, spec };
    const now = { id: name, value, modRevision: 1n };
    this.manager.onChange({ kind: 'Node', id: name, before: undefined, now });
  }

  setBrief(cidr: string, host: string, borrowed: BriefBlock['borrowed'] = [], held = 0n): void {
    const kind = cidr.includes(':') ? 'Block6' : 'Block4';
    const rest = { claimedAt: undefined, held, hasFree: true, isShared: false };
    const brief = { cidr: parseCidr(cidr), host, borrowed, ...rest };
    this.manager.onBrief({ kind, id: cidr, brief });
  }

  /** A block of this host, which is cached whole. */
  setBlock(cidr: string): void {
    const allocations = Array.from({ length: 64 }, () => null);
    const value = { cidr: parseCidr(cidr), affinity: 'host:here', allocations };
    const now = { id: cidr, value, modRevision: 1n };
    this.manager.onChange({ kind: 'Block4', id: cidr, before: undefined, now });
  }

  round(): readonly string[] {
    for (const phase of ['reading', 'routes'] as const) this.manager.apply(phase);
    return [...this.written].map(([to, by]) => `${to} ${by}`).toSorted();
  }
}

const link = {
  index: 2,
  mac: '',
  mtuBytes: 1500,
  isUp: true,
  hasCarrier: true,
  leadsOut: true,
};
const pool4 = { cidr: parseCidr('10.65.0.0/16'), vxlanMode: 'CrossSubnet' } as const;
const ipip4 = { cidr: parseCidr('10.65.0.0/16'), ipipMode: 'CrossSubnet' } as const;
const pool6 = { cidr: parseCidr('fd65::/64') };

function textOf(route: DesiredRoute): string {
  assert.equal(route.kind, 'block');
  if (route.kind !== 'block' || route.via === undefined) return 'blackhole';
  return `via ${route.via.gateway} dev ${route.via.interface}`;
}

function madeRoute(destination: string, table = 255) {
  const route = { destination: parseCidr(destination), table, metric: 0, protocol: 2 };
  return {
    kind: 'routeMade',
    route: { ...route, linkIndex: 2, route: undefined },
    place: 'before others',
  } as const;
}

test('direct routes leave by the interface of the address of this host, which may come and move', () => {
  const lab = new Lab();
  lab.setNode('here', { ipv4Address: '172.16.0.1/24', ipv6Address: 'fd00::1/64' });
  lab.setNode('there', { ipv4Address: '172.16.0.2/24', ipv6Address: 'fd00::2/64' });
  lab.setBlock('10.65.0.0/26');
  lab.setBrief('10.65.0.64/26', 'there', [{ address: parseAddress('10.65.0.70'), node: 'here' }]);
  lab.setBrief('fd65::/122', 'there');
  const own = ['10.65.0.0/26 blackhole', '10.65.0.70/32 blackhole'];
  assert.deepEqual(lab.round(), own);
  assert.deepEqual(
    lab.manager.failures().map(({ what, why }) => `${what}: ${why}`),
    [
      'IPv4 routes to other hosts: no interface of this host has 172.16.0.1, the address of Node here',
      'IPv6 routes to other hosts: no interface of this host has fd00::1, the address of Node here',
    ],
  );
  lab.interfaces.set('172.16.0.1', 'eth0').set('fd00::1', 'eth0');
  assert.equal(lab.manager.onEvent(madeRoute('172.16.0.9/32')), false);
  assert.equal(lab.manager.onEvent(madeRoute('172.16.0.1/32', 254)), false);
  assert.deepEqual(lab.round(), own);
  assert.equal(lab.manager.onEvent(madeRoute('172.16.0.1/32')), true);
  assert.deepEqual(lab.round(), [
    ...own.slice(0, 1),
    '10.65.0.64/26 via 172.16.0.2 dev eth0',
    ...own.slice(1),
    'fd65::/122 via fd00::2 dev eth0',
  ]);
  assert.deepEqual(lab.manager.failures(), []);
  assert.deepEqual(
    lab.manager.reaches().map(({ peer, pool }) => `${peer} ${pool}`),
    ['there four', 'there six'],
  );
  // The address goes for a moment, then the interface.
  const uplink = { ...link, name: 'eth0' };
  const routes = lab.round();
  lab.interfaces.delete('172.16.0.1');
  assert.equal(lab.manager.onEvent({ ...madeRoute('172.16.0.1/32'), kind: 'routeGone' }), true);
  assert.ok(!lab.round().includes('10.65.0.64/26 via 172.16.0.2 dev eth0'));
  lab.interfaces.set('172.16.0.1', 'eth0');
  assert.equal(lab.manager.onEvent({ kind: 'link', link: uplink, isGone: false }), false);
  lab.manager.resync();
  assert.deepEqual(lab.round(), routes);
  const other = { ...link, name: 'eth1' };
  assert.equal(lab.manager.onEvent({ kind: 'link', link: other, isGone: true }), false);
  lab.interfaces.clear();
  assert.equal(lab.manager.onEvent({ kind: 'link', link: uplink, isGone: true }), true);
  assert.deepEqual(lab.round(), own);
  // DHCP gives another address, on a bridge.
  lab.interfaces.clear();
  lab.interfaces.set('172.16.0.7', 'br0').set('fd00::1', 'eth0');
  lab.setNode('here', { ipv4Address: '172.16.0.7/24', ipv6Address: 'fd00::1/64' });
  assert.ok(lab.round().includes('10.65.0.64/26 via 172.16.0.2 dev br0'));
});

test('a plain direct route goes when BIRD has the destination, and comes back with the end of BGP', () => {
  const lab = new Lab();
  lab.setNode('here', { ipv4Address: '172.16.0.1/24', ipv6Address: 'fd00::1/64' });
  lab.setNode('there', { ipv4Address: '172.16.0.2/24', ipv6Address: 'fd00::2/64' });
  lab.interfaces.set('172.16.0.1', 'eth0').set('fd00::1', 'eth0');
  lab.setBrief('10.65.0.64/26', 'there');
  lab.setBrief('fd65::/122', 'there');
  lab.setBrief('fd65::40/122', 'there');
  const [tunnelled, first, second] = [
    '10.65.0.64/26 via 172.16.0.2 dev eth0',
    'fd65::/122 via fd00::2 dev eth0',
    'fd65::40/122 via fd00::2 dev eth0',
  ];
  const all = [tunnelled, first, second];
  assert.deepEqual(lab.round(), all);
  lab.birds = [parseCidr('fd65::/122'), parseCidr('10.65.0.64/26')];
  assert.equal(lab.manager.setBgp({ isOn: true, isSettled: false, hasRouter: false }), true);
  assert.equal(lab.manager.setBgp({ isOn: true, isSettled: false, hasRouter: false }), false);
  assert.deepEqual(lab.round(), [tunnelled, second], 'the pool with a tunnel is not of BGP');
  const event = (kind: 'routeMade' | 'routeGone', destination: string, protocol = 12) => {
    const { route, place } = madeRoute(destination, 254);
    return { kind, route: { ...route, protocol }, place } as const;
  };
  assert.equal(lab.manager.onEvent(event('routeMade', 'fd65::40/122', 4)), false);
  assert.equal(lab.manager.onEvent(event('routeMade', '10.99.0.0/26')), false, 'of no block');
  assert.equal(lab.manager.onEvent(event('routeMade', '10.65.0.64/26')), false, 'by the tunnel');
  assert.equal(lab.manager.onEvent(event('routeMade', 'fd65::40/122')), true);
  assert.deepEqual(lab.round(), [tunnelled]);
  assert.equal(lab.manager.onEvent(event('routeGone', 'fd65::/122')), true);
  assert.deepEqual(lab.round(), [tunnelled, first]);
  lab.manager.setBgp({ isOn: true, isSettled: true, hasRouter: false });
  assert.deepEqual(lab.round(), [tunnelled], 'BGP has withdrawn it');
  lab.setBrief('10.65.0.128/26', 'there');
  const another = '10.65.0.128/26 via 172.16.0.2 dev eth0';
  assert.deepEqual(lab.round(), [another, tunnelled], 'a pool with a tunnel has its routes');
  lab.setBrief('10.65.0.128/26', 'nowhere');
  lab.manager.setBgp(bgpIsOff);
  assert.deepEqual(lab.round(), all);
});

test('a host behind routers is reached by BGP when they announce all of its networks', () => {
  const lab = new Lab();
  lab.setPool({
    kind: 'IPPool',
    apiVersion,
    metadata: { name: 'plain' },
    spec: { cidr: parseCidr('10.66.0.0/16') },
  });
  lab.setNode('here', { ipv4Address: '172.16.0.1/24' });
  lab.setNode('there', { ipv4Address: '172.16.9.2/24' });
  lab.setBrief('10.66.1.0/26', 'there');
  lab.setBrief('10.66.2.0/26', 'there', [{ address: parseAddress('10.66.2.7'), node: 'there' }]);
  const by = () => lab.manager.reaches().find(({ pool }) => pool === 'plain')?.reach.by;
  const routes = (...nets: readonly string[]) => {
    lab.birds = nets.map((net) => parseCidr(net));
    lab.manager.resync();
  };
  assert.equal(by(), 'none');
  routes('10.66.1.0/26', '10.66.2.0/26');
  lab.manager.setBgp({ isOn: true, isSettled: true, hasRouter: false });
  assert.equal(by(), 'none', 'routers between nodes of a mesh know no pool');
  lab.manager.setBgp({ isOn: true, isSettled: true, hasRouter: true });
  assert.equal(by(), 'bgp');
  routes('10.66.1.0/26', '10.66.3.0/26');
  assert.equal(by(), 'none');
  routes('0.0.0.0/0');
  assert.equal(by(), 'none', 'a default route says nothing');
  routes('10.66.0.0/16');
  assert.equal(by(), 'bgp');
});

test('routes through the tunnel need no interface of the host', () => {
  const lab = new Lab();
  const tunnel = (n: number) => ({ ipv4VXLANTunnelAddr: `10.65.${n}.1` });
  lab.setNode('here', { ipv4Address: '172.16.0.1/24' }, tunnel(0));
  lab.setNode('there', { ipv4Address: '172.16.9.2/24' }, tunnel(1));
  lab.setBrief('10.65.1.0/26', 'there');
  assert.deepEqual(lab.round(), ['10.65.1.0/26 via 10.65.1.1 dev vxlan.calico']);
  assert.deepEqual(lab.manager.failures(), []);
});

test('a tunnel that FelixConfiguration disables has no routes', () => {
  const lab = new Lab();
  lab.setPool({ kind: 'IPPool', apiVersion, metadata: { name: 'four' }, spec: ipip4 });
  lab.setNode('here', { ipv4Address: '172.16.0.1/24' });
  lab.setNode('there', { ipv4Address: '172.16.9.2/24' });
  lab.setBrief('10.65.1.0/26', 'there');
  const through = ['10.65.1.0/26 via 172.16.9.2 dev tunl0'];
  assert.deepEqual(lab.round(), through);
  const configure = (name: string, spec: FelixConfiguration['spec']) => {
    const value: FelixConfiguration = {
      kind: 'FelixConfiguration',
      apiVersion,
      metadata: { name },
      spec,
    };
    const now = { id: name, value, modRevision: 1n };
    lab.manager.onChange({ kind: 'FelixConfiguration', id: name, before: undefined, now });
  };
  configure('node.there', { ipipEnabled: false });
  assert.deepEqual(lab.round(), through);
  configure('default', { ipipEnabled: false });
  assert.deepEqual(lab.round(), []);
  assert.match(JSON.stringify(lab.manager.reaches()), /ipipEnabled: false/);
  configure('node.here', { ipipEnabled: true });
  assert.deepEqual(lab.round(), through);
});

test('an address family that this host does not serve has no routes', () => {
  const lab = new Lab([4]);
  lab.setNode('here', { ipv6Address: 'fd00::1/64' });
  lab.setNode('there', { ipv6Address: 'fd00::2/64' });
  lab.interfaces.set('fd00::1', 'eth0');
  lab.setBrief('fd65::/122', 'there');
  lab.setBrief('fd65::40/122', 'here');
  assert.deepEqual(lab.round(), []);
  assert.deepEqual(lab.manager.failures(), []);
});

test('connections of the former owner of an address are flushed when another host uses it', () => {
  const lab = new Lab();
  const flow = (source: string, answerer: string): Flow => ({
    family: 4,
    source: parseAddress(source),
    destination: parseAddress('192.0.2.9'),
    protocol: 17,
    sourcePort: 1,
    destinationPort: 2,
    answerer: parseAddress(answerer),
    answeringPort: 2,
    mark: 0,
    tuple: Buffer.alloc(0),
  });
  const all = [
    flow('10.65.0.1', '10.65.0.64'),
    flow('10.65.0.64', '10.65.0.1'),
    flow('10.65.0.1', '10.65.0.65'),
  ];
  lab.flows = all;
  for (const held of [3n, 2n]) {
    lab.setBrief('10.65.0.64/26', 'there', [], held);
    lab.round();
    assert.equal(lab.flows.length, 3);
  }
  lab.setBrief('10.65.0.64/26', 'there', [], 3n);
  lab.round();
  assert.deepEqual(lab.flows, all.slice(2));
});
