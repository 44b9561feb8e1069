import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { configText } from '../../src/bird/config-text.ts';
import type { IpFamily } from '../../src/ip/address.ts';
import { cidrCovers, parseCidr } from '../../src/ip/cidr.ts';
import type { BgpFilterRule } from '../../src/model/kinds/bgp-filter.ts';
import {
  block,
  configuration,
  filter,
  inputsOf,
  node,
  peer,
  pool,
  type Case,
} from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { bgpModel, endedSessions } from '../../src/routing/bgp/bgp-model.ts';
import { startRoutingMachine, stopBird } from '../lab/birds.ts';
import { unlessLong } from '../lab/long.ts';
import type { Machine } from '../lab/machine.ts';
import { eventually } from '../lab/poll.ts';

/** A BIRD with random resources, a node of its mesh and a router, which announce networks of all kinds. */
let machine: Machine;

/** In the main table of the node there is what others have written, too. */
const network = `
  ip link add name sw0 type bridge
  ip address add 192.0.2.1/24 dev sw0
  ip address add 2001:db8::1/64 dev sw0 nodad
  ip link set sw0 up
  for peer in 2 254; do
    ip netns add peer-$peer
    ip link add peer-$peer master sw0 type veth peer name e0 netns peer-$peer
    ip link set peer-$peer up
    ip -n peer-$peer address add 192.0.2.$peer/24 dev e0
    ip -n peer-$peer address add 2001:db8::$peer/64 dev e0 nodad
    ip -n peer-$peer link set e0 up
  done
  ip route add default via 192.0.2.254
  ip route add 10.64.77.0/26 via 192.0.2.254
  ip route add 172.20.0.0/16 via 192.0.2.254 proto static
  ip route add blackhole 10.66.7.0/26
  ip route add default via 2001:db8::254
  ip route add fd00:64::7700/122 via 2001:db8::254
  ip route add fd00:172::/48 via 2001:db8::254 proto static
  ip route add blackhole fd00:66::700/122
  mkdir -p /run/calico
`;

/** The networks of a family. */
interface Networks {
  readonly on: (host: number) => string;
  readonly length: number;
  readonly pools: readonly string[];
  /** In no pool, and inside pools or around them. */
  readonly strange: readonly string[];
  readonly inside: readonly string[];
  /** The first three prefixes are those of pools. */
  readonly prefixes: readonly string[];
  readonly block: (prefix: string, n: number) => readonly [net: string, address: string];
}

const networks: Readonly<Record<IpFamily, Networks>> = {
  4: {
    on: (host) => `192.0.2.${host}`,
    length: 24,
    pools: ['10.64.0.0/16', '10.65.0.0/16', '10.65.128.0/17', '10.66.0.0/16'],
    strange: ['0.0.0.0/0', '203.0.113.0/24', '172.30.0.0/16', '192.168.7.1/32', '10.0.0.0/8'],
    inside: ['10.64.9.0/26', '10.64.9.7/32', '10.65.9.0/26', '10.66.0.0/15', '10.67.1.0/26'],
    prefixes: ['10.64', '10.65', '10.66', '192.168'],
    block: (prefix, n) => [`${prefix}.${n}.0/26`, `${prefix}.${n}.5`],
  },
  6: {
    on: (host) => `2001:db8::${host}`,
    length: 64,
    pools: ['fd00:64::/48', 'fd00:65::/48', 'fd00:65:0:8000::/49', 'fd00:66::/48'],
    strange: ['::/0', '2001:db8:113::/48', 'fd00:173::/48', 'fd00:168::1/128', 'fd00::/8'],
    inside: ['fd00:64::900/122', 'fd00:64::907/128', 'fd00:65::900/122', 'fd00:66::/47'],
    prefixes: ['fd00:64', 'fd00:65', 'fd00:66', 'fd00:168'],
    block: (prefix, n) => [`${prefix}::${n.toString(16)}00/122`, `${prefix}::${n.toString(16)}05`],
  },
};

/** The configuration of a peer that announces all kinds of networks. */
function peerText(family: IpFamily, host: number, as: number): string {
  const { on, strange, inside } = networks[family];
  return `
    router id 192.0.2.${host};
    protocol device { }
    protocol static own { ipv${family}; ${[...strange, ...inside].map((net) => `route ${net} blackhole;`).join(' ')} }
    protocol bgp node {
      local ${on(host)} as ${as};
      neighbor ${on(1)} as 64512;
      multihop; connect delay time 1;
      ipv${family} { import all; export where proto = "own"; next hop self; };
    }`;
}

const operations: NonNullable<BgpFilterRule['operations']> = [
  { addCommunity: { value: '65001:1' } },
  { setPriority: { value: 512 } },
  { prependASPath: { prefix: [65_100] } },
];

/** Random resources of two nodes and a router; the first node is a route reflector of the second one, or not. */
function resourcesOf(family: IpFamily, isReflector: boolean): fc.Arbitrary<Case> {
  const { on, length, pools: nets, strange, inside, prefixes, block: blockOf } = networks[family];
  const cidr = fc.constantFrom(...nets, ...strange, ...inside);
  const rule = fc.record(
    {
      action: fc.constantFrom('Accept', 'Accept', 'Reject'),
      cidr: cidr.map((text) => parseCidr(text)),
      matchOperator: fc.constantFrom('In', 'NotIn', 'Equal', 'NotEqual'),
      source: fc.constant('RemotePeers'),
      peerType: fc.constantFrom('eBGP', 'iBGP'),
      prefixLength: fc.record({ min: fc.integer({ min: 0, max: family === 4 ? 32 : 128 }) }),
      operations: fc.array(fc.constantFrom(...operations)),
    },
    { requiredKeys: ['action'] },
  );
  const rules = fc.array(rule, { maxLength: 4 });
  const blocks = fc.uniqueArray(
    fc
      .tuple(
        fc.constantFrom(...prefixes),
        fc.integer({ min: 0, max: 255 }),
        fc.constantFrom('a', 'b'),
      )
      .map(([prefix, n, owner]) => {
        const [net, address] = blockOf(prefix, n);
        return block(net, owner, { [address]: owner === 'a' ? 'b' : 'a' });
      }),
    { maxLength: 12, selector: ({ cidr: of }) => of },
  );
  const pools = fc.uniqueArray(
    fc
      .tuple(fc.constantFrom(...nets), fc.boolean(), fc.boolean())
      .map(([of, disableBGPExport, isTunnel]) =>
        pool(`p-${of.replaceAll(/[./:]/g, '-')}`, of, {
          disableBGPExport,
          vxlanMode: isTunnel ? 'Always' : 'Never',
        }),
      ),
    { maxLength: 4, selector: ({ metadata }) => metadata.name },
  );
  const address = (host: number) =>
    family === 4
      ? { ipv4Address: `${on(host)}/${length}` }
      : { ipv6Address: `${on(host)}/${length}` };
  const lists =
    family === 4 ? (['importV4', 'exportV4'] as const) : (['importV6', 'exportV6'] as const);
  return fc
    .record({ pools, blocks, imports: rules, exports: rules, advertised: fc.array(cidr) })
    .map(({ pools: some, blocks: of, imports, exports, advertised }) => ({
      nodes: [
        node('a', {
          ...address(1),
          ...(isReflector ? { routeReflectorClusterID: '1.0.0.1' } : {}),
        }),
        node('b', address(2)),
      ],
      pools: some,
      blocks: of,
      filters: [filter('some', { [lists[0]]: imports, [lists[1]]: exports })],
      peers: [
        peer('rack', { peerIP: on(254), asNumber: 65_001, filters: ['some'] }),
        ...(isReflector ? [peer('clients', { node: 'a', peerSelector: 'all()' })] : []),
      ],
      configurations: [
        configuration('default', {
          prefixAdvertisements: advertised.map((net) => ({
            cidr: parseCidr(net),
            communities: ['65001:2'],
          })),
        }),
      ],
    }));
}

const files = (name: string) => [
  '-c',
  `/run/calico/${name}.conf`,
  '-s',
  `/run/calico/${name}.ctl`,
  '-P',
  `/run/calico/${name}.pid`,
];
const ask = (...command: readonly string[]) =>
  machine.run(['birdc', '-s', '/run/calico/bird.ctl', ...command]);
const modelOf = (given: Case) => bgpModel(inputsOf(given));

async function write(given: Case, family: IpFamily): Promise<void> {
  const text = configText(modelOf(given), {
    logFile: '/run/calico/bird.log',
    foreignProtocols: [80],
    families: [family],
    programsKernel: true,
  });
  writeFileSync(machine.path('/run/calico/bird.conf'), text);
}

async function exported(session: string): Promise<readonly string[]> {
  const shown = await ask('show', 'route', 'export', session);
  return [...shown.matchAll(/^([\da-f:.]+\/\d+) /gm)].map(([, net = '']) => net);
}

/** Resources of the same nodes with which the first one exports its block. */
function oneBlock(family: IpFamily, given: Case, cidr: string): Case {
  const [net = assert.fail()] = networks[family].pools;
  return {
    ...given,
    pools: [pool('own', net)],
    blocks: [block(cidr, 'a')],
    filters: [filter('some', {})],
  };
}

/** The sessions, and the time since when each is established. */
async function established(): Promise<ReadonlyMap<string, string>> {
  const shown = await ask('show', 'protocols');
  return new Map(
    [...shown.matchAll(/^(\S+) +BGP .* up +(.*?) +Established/gm)].map(
      ([, name = '', since = '']) => [name, since],
    ),
  );
}

describe('a BIRD with random resources', { timeout: 600_000 }, () => {
  before(async () => {
    machine = await startRoutingMachine();
    await machine.run(['sh', '-e'], { input: network });
  });
  after(() => machine[Symbol.asyncDispose]());

  for (const { title, family, isReflector } of [
    { title: 'IPv4', family: 4, isReflector: false },
    { title: 'IPv4, as a route reflector', family: 4, isReflector: true },
    { title: 'IPv6', family: 6, isReflector: false },
  ] as const) {
    test(`whatever the resources, only addresses of IP pools are exported, and no session ends: ${title}`, async (t) => {
      const runs = unlessLong() === false ? 200 : 15;
      const resources = resourcesOf(family, isReflector);
      const [start] = fc.sample(resources, { numRuns: 1, seed: 1 });
      let last = start ?? assert.fail();
      await write(last, family);
      for (const [host, as] of [
        [2, 64_512],
        [254, 65_001],
      ] as const) {
        const name = `peer-${host}`;
        writeFileSync(machine.path(`/run/calico/${name}.conf`), peerText(family, host, as));
        await machine.run(['ip', 'netns', 'exec', name, 'bird', ...files(name)]);
        t.after(() => stopBird(machine, `/run/calico/${name}`));
      }
      await machine.run(['bird', ...files('bird')]);
      t.after(() => stopBird(machine, '/run/calico/bird'));
      const isEstablished = async () => (await established()).size === 2;
      assert.ok(await eventually(isEstablished), await ask('show', 'protocols'));
      const since = await established();
      const law = fc.asyncProperty(resources, async (given) => {
        assert.deepEqual(endedSessions(modelOf(last), modelOf(given)), []);
        last = given;
        await write(given, family);
        assert.match(await ask('configure'), /Reconfigur/);
        for (const session of since.keys()) {
          const found = await exported(session);
          const stray = found.filter(
            (net) => !(given.pools ?? []).some(({ spec }) => cidrCovers(spec.cidr, parseCidr(net))),
          );
          assert.deepEqual(stray, [], session);
        }
      });
      await fc.assert(law, { numRuns: runs });
      // What is exported can be seen, or the law would hold of nothing.
      const [own] = networks[family].block(networks[family].prefixes[0] ?? assert.fail(), 1);
      await write(oneBlock(family, last, own), family);
      assert.match(await ask('configure'), /Reconfigur/);
      for (const session of since.keys()) {
        const isExported = async () => (await exported(session)).includes(own);
        assert.ok(await eventually(isExported), `${session}: ${own} is not exported`);
      }
      assert.deepEqual(await established(), since);
    });
  }
});
