import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../ip/address.ts';
import { addressAt, cidrCovers, hostCidr, parseCidr, splitCidr, type Cidr } from '../ip/cidr.ts';
import type { BriefBlock } from '../model/briefs.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import type { Node } from '../model/kinds/node.ts';
import { BlockRoutes, type BlockRoute } from './block-routes.ts';
import { peerOf, reachOf, withoutDisabledTunnels } from './peers.ts';
import { encapsulationOf, type Encapsulation } from './tunnels.ts';

const apiVersion = 'projectcalico.org/v3';

function newRoutes(node = 'own') {
  const written = new Map<string, BlockRoute>();
  const routes = new BlockRoutes(node, {
    setDesired: (route) => written.set(route.destination, route),
    deleteDesired: (destination) =>
      assert.ok(written.delete(destination), `${destination} has no route`),
  });
  return { routes, written };
}

/** A node on a segment; two nodes of one segment are in one subnet. */
function node(name: string, segment: number, host: number, hasTunnel = true): Node {
  return {
    kind: 'Node',
    apiVersion,
    metadata: { name },
    spec: {
      bgp: {
        ipv4Address: `172.16.${segment}.${host}/24`,
        ipv6Address: `fd00:${segment}::${host}/64`,
      },
      ...(hasTunnel
        ? {
            ipv4VXLANTunnelAddr: `10.65.${segment}.${host}`,
            ipv6VXLANTunnelAddr: `fd65::${segment}:${host}`,
          }
        : {}),
    },
  };
}

function pool(name: string, cidr: string, spec: Partial<IpPool['spec']> = {}): IpPool {
  return {
    kind: 'IPPool',
    apiVersion,
    metadata: { name },
    spec: { cidr: parseCidr(cidr), ...spec },
  };
}

function block(
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
    borrowed: Object.entries(borrowed).map(([address, by]) => ({
      address: parseAddress(address),
      node: by,
    })),
  };
}

/** The routes as text, in order. */
function shown(written: ReadonlyMap<string, BlockRoute>): readonly string[] {
  return [...written.values()]
    .map((route) =>
      route.by === 'blackhole'
        ? `${route.destination} blackhole`
        : `${route.destination} ${route.by} ${route.gateway}`,
    )
    .toSorted();
}

describe('block routes', () => {
  test('lead to the blocks of other nodes, to addresses they borrow, and nowhere in own blocks', () => {
    const { routes, written } = newRoutes();
    routes.setBlock('a', block('10.65.0.0/26', 'own', { '10.65.0.7': 'near' }));
    routes.setBlock('b', block('10.65.0.64/26', 'near', { '10.65.0.70': 'own' }));
    routes.setBlock('c', block('fd65::/122', 'far', { 'fd65::5': 'near' }));
    routes.setBlock('d', block('10.65.0.128/26', undefined, { '10.65.0.130': 'far' }));
    routes.setBlock('e', block('10.99.0.0/26', 'near'));
    routes.setPool('four', pool('four', '10.65.0.0/16', { vxlanMode: 'CrossSubnet' }));
    routes.setPool('six', pool('six', 'fd65::/64', { vxlanMode: 'Always' }));
    for (const one of [node('own', 1, 1), node('near', 1, 2), node('far', 2, 3)]) {
      routes.setNode(one.metadata.name, one);
    }
    const all = [
      '10.65.0.0/26 blackhole',
      '10.65.0.130/32 vxlan 10.65.2.3',
      '10.65.0.64/26 direct 172.16.1.2',
      '10.65.0.7/32 direct 172.16.1.2',
      '10.65.0.70/32 blackhole',
      'fd65::/122 vxlan fd65::2:3',
      'fd65::5/128 vxlan fd65::1:2',
    ];
    assert.deepEqual(shown(written), all);
    // A block changes hands, an address moves, a node leaves, a pool loses its tunnel.
    routes.setBlock('a', block('10.65.0.0/26', 'near', { '10.65.0.7': 'far' }));
    routes.setNode('far', node('far', 1, 3));
    assert.deepEqual(shown(written), [
      '10.65.0.0/26 direct 172.16.1.2',
      '10.65.0.130/32 direct 172.16.1.3',
      '10.65.0.64/26 direct 172.16.1.2',
      '10.65.0.7/32 direct 172.16.1.3',
      '10.65.0.70/32 blackhole',
      'fd65::/122 vxlan fd65::1:3',
      'fd65::5/128 vxlan fd65::1:2',
    ]);
    routes.setNode('far', undefined);
    routes.setPool('six', pool('six', 'fd65::/64'));
    assert.deepEqual(shown(written), [
      '10.65.0.0/26 direct 172.16.1.2',
      '10.65.0.64/26 direct 172.16.1.2',
      '10.65.0.70/32 blackhole',
      'fd65::5/128 direct fd00:1::2',
    ]);
    for (const id of ['a', 'b', 'c', 'd', 'e']) routes.setBlock(id, undefined);
    assert.deepEqual(shown(written), []);
  });

  test('use no tunnel that FelixConfiguration disables; those of its own subnet are direct ones', () => {
    const { routes, written } = newRoutes();
    routes.setBlock('a', block('10.65.0.0/26', 'near'));
    routes.setBlock('b', block('10.65.0.64/26', 'far'));
    routes.setBlock('c', block('fd65::/122', 'far'));
    routes.setPool('four', pool('four', '10.65.0.0/16', { ipipMode: 'CrossSubnet' }));
    routes.setPool('six', pool('six', 'fd65::/64', { vxlanMode: 'Always' }));
    for (const one of [node('own', 1, 1), node('near', 1, 2), node('far', 2, 3)]) {
      routes.setNode(one.metadata.name, one);
    }
    const direct = '10.65.0.0/26 direct 172.16.1.2';
    const ipip = '10.65.0.64/26 ipip 172.16.2.3';
    const vxlan = 'fd65::/122 vxlan fd65::2:3';
    assert.deepEqual(shown(written), [direct, ipip, vxlan]);
    routes.setAllowed({ vxlan: true, ipip: false });
    assert.deepEqual(shown(written), [direct, vxlan]);
    routes.setAllowed({ vxlan: false, ipip: true });
    assert.deepEqual(shown(written), [direct, ipip]);
    routes.setAllowed({ vxlan: true, ipip: true });
    assert.deepEqual(shown(written), [direct, ipip, vxlan]);
  });

  test('depend only on the current state, in whatever order it came about', () => {
    fc.assert(
      fc.property(fc.array(anyChange, { maxLength: 60 }), (changes) => {
        const { routes, written } = newRoutes();
        const state: State = {
          pools: new Map(),
          nodes: new Map(),
          blocks: new Map(),
          disabled: new Map(),
        };
        for (const change of changes) {
          change(routes, state);
          assert.deepEqual(shown(written), expected(state));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('cost what a change affects, with few or many other objects', () => {
    const costs = [10, 2000].map((others) => {
      const { routes } = newRoutes();
      routes.setNode('own', node('own', 1, 1));
      for (let n = 0; n < others; n++) {
        const [high, low] = [Math.floor(n / 250), n % 250];
        routes.setPool(`p${n}`, pool(`p${n}`, `10.${high}.${low}.0/24`));
        routes.setBlock(`b${n}`, block(`10.${high}.${low}.0/26`, `n${n}`));
        routes.setNode(`n${n}`, node(`n${n}`, 1, 2 + low));
      }
      const cost = (change: () => void) => {
        const before = routes.evaluated;
        change();
        return routes.evaluated - before;
      };
      return [
        cost(() => routes.setPool('new', pool('new', '10.200.0.0/24'))),
        cost(() => routes.setNode('new', node('new', 1, 255))),
        cost(() => routes.setBlock('new', block('10.200.0.0/26', 'new', { '10.200.0.3': 'n1' }))),
        cost(() => routes.setBlock('new', block('10.200.0.0/26', 'new', { '10.200.0.3': 'n2' }))),
        cost(() => routes.setPool('new', pool('new', '10.200.0.0/24', { vxlanMode: 'Always' }))),
        cost(() => routes.setNode('new', node('new', 2, 255))),
        cost(() => routes.setNode('new', undefined)),
      ];
    });
    assert.deepEqual(costs, [
      [0, 0, 2, 1, 2, 1, 1],
      [0, 0, 2, 1, 2, 1, 1],
    ]);
  });
});

interface State {
  readonly pools: Map<string, IpPool>;
  readonly nodes: Map<string, Node>;
  readonly blocks: Map<string, BriefBlock>;
  /** Encapsulations that FelixConfiguration disables. */
  readonly disabled: Map<Encapsulation, true>;
}

type Change = (routes: BlockRoutes, state: State) => void;

function setIn<Value>(map: Map<string, Value>, key: string, value: Value | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

const names = ['own', 'n1', 'n2'] as const;
const poolCidrs = ['10.65.0.0/16', '10.65.0.0/24', '10.65.0.0/27', 'fd65::/64'] as const;
const blockCidrs = ['10.65.0.0/26', '10.65.0.0/28', '10.65.0.5/32', '10.65.1.0/26', 'fd65::/122'];

const poolChange: fc.Arbitrary<Change> = fc
  .record({
    name: fc.constantFrom('p', 'q', 'r'),
    cidr: fc.constantFrom(...poolCidrs),
    by: fc.constantFrom('vxlanMode', 'ipipMode'),
    mode: fc.constantFrom('Never', 'CrossSubnet', 'Always', undefined),
  })
  .map(({ name, cidr, by, mode }) => (routes, { pools }) => {
    const now = mode === undefined ? undefined : pool(name, cidr, { [by]: mode });
    setIn(pools, name, now);
    routes.setPool(name, now);
  });

const nodeChange: fc.Arbitrary<Change> = fc
  .record({
    name: fc.constantFrom(...names),
    segment: fc.option(fc.integer({ min: 1, max: 2 }), { nil: undefined }),
    hasTunnel: fc.boolean(),
  })
  .map(({ name, segment, hasTunnel }) => (routes, { nodes }) => {
    const host = names.indexOf(name) + 1;
    const now = segment === undefined ? undefined : node(name, segment, host, hasTunnel);
    setIn(nodes, name, now);
    routes.setNode(name, now);
  });

const blockChange: fc.Arbitrary<Change> = fc
  .record({
    cidr: fc.constantFrom(...blockCidrs).map((text) => parseCidr(text)),
    host: fc.constantFrom(...names, undefined),
    isThere: fc.boolean(),
    borrowed: fc.dictionary(fc.constantFrom('0', '3', '5'), fc.constantFrom(...names)),
  })
  .map(({ cidr, host, isThere, borrowed }) => (routes, { blocks }) => {
    const borrowers = Object.entries(borrowed).flatMap(([ordinal, by]) => {
      const address = addressAt(cidr, BigInt(ordinal));
      const isInside = cidrCovers(cidr, hostCidr(address)) && splitCidr(cidr).prefixLength < 32;
      return isInside && by !== host ? [[address, by] as const] : [];
    });
    const now = isThere ? block(cidr, host, Object.fromEntries(borrowers)) : undefined;
    setIn(blocks, cidr, now);
    routes.setBlock(cidr, now);
  });

const allowedChange: fc.Arbitrary<Change> = fc
  .record({ encapsulation: fc.constantFrom('vxlan', 'ipip'), isAllowed: fc.boolean() })
  .map(({ encapsulation, isAllowed }) => (routes, { disabled }) => {
    setIn(disabled, encapsulation, isAllowed ? undefined : true);
    routes.setAllowed(allowedBut(disabled));
  });

const allowedBut = (disabled: State['disabled']) => ({
  vxlan: !disabled.has('vxlan'),
  ipip: !disabled.has('ipip'),
});

const anyChange = fc.oneof(poolChange, nodeChange, blockChange, allowedChange);

/** The routes of a state, from scratch. */
function expected({ pools, nodes, blocks, disabled }: State): readonly string[] {
  const holders = new Map<Cidr, string>();
  for (const [, { cidr, host, borrowed }] of [...blocks].toSorted(([a], [b]) => (a < b ? 1 : -1))) {
    if (host !== undefined) holders.set(cidr, host);
    for (const one of borrowed) holders.set(hostCidr(one.address), one.node);
  }
  const stored = nodes.get('own');
  const own = stored && withoutDisabledTunnels(peerOf(stored), { isAllowed: allowedBut(disabled) });
  const written = new Map<string, BlockRoute>();
  for (const [destination, holder] of holders) {
    const [inside] = [...pools.values()]
      .filter(({ spec }) => cidrCovers(spec.cidr, destination))
      .toSorted(
        (a, b) =>
          splitCidr(b.spec.cidr).prefixLength - splitCidr(a.spec.cidr).prefixLength ||
          (a.metadata.name < b.metadata.name ? -1 : 1),
      );
    if (inside === undefined) continue;
    const peer = nodes.get(holder);
    if (holder === 'own') written.set(destination, { by: 'blackhole', destination });
    else if (peer !== undefined) {
      const reach = reachOf(inside, own, peerOf(peer));
      if (reach.by !== 'none')
        written.set(destination, {
          by: reach.by,
          destination,
          gateway: reach.gateway,
          isPlain: encapsulationOf(inside).mode === 'Never',
        });
    }
  }
  return shown(written);
}
