import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import type { Datastore } from '../../src/datastore/datastore.ts';
import { openSqliteStore } from '../../src/datastore/sqlite-store.ts';
import { parseAddress, type IpAddress } from '../../src/ip/address.ts';
import { hostCidr } from '../../src/ip/cidr.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import { entryTypeOf, type EntryKind, type EntryValue } from '../../src/model/kinds/index.ts';
import type { WorkloadEndpoint } from '../../src/model/kinds/workload-endpoint.ts';
import {
  type ReferenceEndpoint,
  type ReferencePolicy,
  type World,
} from '../../src/profiles/reference.fixture.ts';
import { here, outside, peer } from '../../src/profiles/worlds.fixture.ts';
import { makeContainerNamespace } from '../lab/container-namespace.ts';
import { endpointId, here as node, KernelAgent } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';
import type { Stream } from '../lab/packet-streams.ts';
import { ProbeReceiver } from '../lab/raw-packets.ts';

const namespace = enterNewNamespace();
const libc = loadLibc();
const conntrack = NetlinkSocket.open(libc, 12);
after(() => {
  conntrack.close();
  namespace[Symbol.dispose]();
});

const apiVersion = 'projectcalico.org/v3';
const sh = (script: string) => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });
const netns = (name: string) => `${namespace.name}-${name}`;
const inside = <T>(name: string, what: () => T): T =>
  inNetworkNamespace(libc, `/run/netns/${netns(name)}`, what);

/** How often policies that deny a packet are replaced by others that deny it, during a flood of such packets. */
const replacements = process.env['CALICO_TEST_LONG'] === '1' ? 500 : 50;
/** How often a container, and the daemon, starts during a flood. */
const starts = process.env['CALICO_TEST_LONG'] === '1' ? 40 : 4;
const seed = Number(process.env['CALICO_TEST_SEED'] ?? 1);

const locals = ['here', 'peer'] as const;
/** The address of a container that starts during a test. */
const fresh = parseAddress('10.65.0.9');

for (const backend of ['nft', 'legacy'] as const) {
  describe(`policies, iptables-${backend}`, { timeout: 600_000 }, () => obeys(backend));
}

function obeys(backend: Backend): void {
  let lab: KernelAgent;
  const receivers = new Map<string, ProbeReceiver>();
  let store: Datastore;
  let written: readonly string[] = [];

  before(async () => {
    store = await openSqliteStore(':memory:');
    lab = await KernelAgent.start(backend, undefined, undefined, { datastore: store });
    sh(`sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        sysctl -qw net.ipv4.icmp_ratelimit=0`);
    for (const [index, name] of locals.entries()) {
      const address = index === 0 ? here : peer;
      const interfaceName = `cali${name}`;
      await lab.join({ name, networks: [hostCidr(address)], profiles: [], interfaceName });
      makeContainerNamespace({
        name,
        netns: netns(name),
        interfaceName,
        address4: address,
        address6: `fd65::${index + 1}`,
      });
    }
    sh(`ip netns add ${netns('out')}
        ip link add uplink type veth peer name eth0 netns ${netns('out')}
        ip address add 203.0.113.2/24 dev uplink
        ip link set uplink up
        out="ip -n ${netns('out')}"
        $out link set lo up
        $out address add 203.0.113.1/24 dev eth0
        $out address add ${outside}/32 dev eth0
        $out link set eth0 up
        $out route add default via 203.0.113.2
        ip route add ${outside} via 203.0.113.1`);
    for (const name of [...locals, 'out']) {
      receivers.set(
        name,
        inside(name, () => new ProbeReceiver(libc)),
      );
    }
  });
  after(async () => {
    for (const receiver of receivers.values()) receiver[Symbol.dispose]();
    await lab[Symbol.asyncDispose]();
    await store.close();
    for (const name of [...locals, 'out']) sh(`ip netns del ${netns(name)}`);
    sh(`iptables-${backend} -F; ip6tables-${backend} -F`);
  });

  /** Replaces all resources in one transaction, and waits until the kernel has them. */
  async function set(of: World, invalid: readonly string[] = []): Promise<void> {
    const before = new Set(written);
    const texts = new Map([
      ...textsOf(of),
      ...invalid.map((text, index) => invalidPolicy(text, index)),
    ]);
    written = [...texts.keys()].filter((key) => !key.includes('/workloadendpoints/'));
    const gone = [...before].filter((key) => !texts.has(key));
    const writes = [
      ...gone.map((key) => ({ key, value: undefined })),
      ...[...texts].map(([key, value]) => ({ key, value })),
    ];
    const signal = AbortSignal.timeout(120_000);
    const done = await store.commit({ compares: [], writes }, signal);
    assert.ok(done.kind === 'committed');
    await lab.agent.programmed('none', done.revision, signal);
  }

  /** Runs what happens during a flood from outside that policy denies to an address; none of it may pass. */
  async function duringFlood(
    { to, place }: { readonly to: IpAddress; readonly place: string },
    happens: (hasPassed: () => boolean) => Promise<void>,
  ): Promise<void> {
    const stream = {
      namespace: netns('out'),
      protocol: 'udp',
      source: outside,
      destination: to,
      from: 1000,
      to: 80,
      tos: 0,
    } satisfies Stream;
    const script = fileURLToPath(new URL('../lab/packet-streams.ts', import.meta.url));
    const flood = spawn(process.execPath, [script, JSON.stringify([stream])], { stdio: 'inherit' });
    try {
      await happens(() => receivers.get(place)?.arrived().has(floodId) === true);
    } finally {
      flood.kill('SIGKILL');
      await once(flood, 'exit');
    }
  }

  test('policies that deny a packet are replaced by others that deny it, and none of a flood passes', async () => {
    await set(open([]));
    await duringFlood({ to: here, place: 'here' }, async (hasPassed) => {
      assert.ok(await eventually(hasPassed), 'without policies the flood passes');
      await set(denied(denials[0]), denials[0]?.invalid);
      await setTimeout(200);
      receivers.get('here')?.forget();
      const order = fc.sample(fc.nat(denials.length - 1), { seed, numRuns: replacements });
      let before = 0;
      for (const at of order) {
        await set(denied(denials[at]), denials[at]?.invalid);
        assert.ok(!hasPassed(), `a packet has passed between denials ${before} and ${at}`);
        before = at;
      }
      await isDenied(hasPassed);
      await set(open([]));
      assert.ok(await eventually(hasPassed), 'without policies the flood passes again');
    });
  });

  test('none of a flood that began before its container started passes, whatever denies it', async () => {
    const facts = {
      name: 'new',
      networks: [hostCidr(fresh)],
      profiles: [],
      interfaceName: 'calinew',
    };
    const start = async (): Promise<void> => {
      lab.makeLink('calinew');
      makeContainerNamespace({
        name: 'new',
        netns: netns('new'),
        interfaceName: 'calinew',
        address4: fresh,
        address6: 'fd65::9',
      });
      receivers.set(
        'new',
        inside('new', () => new ProbeReceiver(libc)),
      );
    };
    const stop = async (): Promise<void> => {
      receivers.get('new')?.[Symbol.dispose]();
      receivers.delete('new');
      await lab.leave(facts);
      sh(`ip netns del ${netns('new')}`);
    };
    await duringFlood({ to: fresh, place: 'new' }, async (hasPassed) => {
      for (const denial of fc.sample(fc.constantFrom(...denials), { seed, numRuns: starts })) {
        await set(denied(denial), denial.invalid);
        await start();
        await set(denied(denial, [fresh]), denial.invalid);
        await isDenied(hasPassed);
        await stop();
      }
      await start();
      await set(open([], [fresh]));
      assert.ok(await eventually(hasPassed), 'without policies the flood passes');
      await stop();
    });
  });

  test('none of a flood passes while the daemon starts again', async () => {
    await set(open([]));
    await duringFlood({ to: here, place: 'here' }, async (hasPassed) => {
      assert.ok(await eventually(hasPassed), 'without policies the flood passes');
      for (const denial of fc.sample(fc.constantFrom(...denials), { seed, numRuns: starts })) {
        await set(denied(denial), denial.invalid);
        await setTimeout(200);
        receivers.get('here')?.forget();
        await lab[Symbol.asyncDispose]();
        lab = await KernelAgent.start(backend, undefined, undefined, { datastore: store });
        await lab.settled();
        await isDenied(hasPassed);
      }
    });
  });

  /** Fails if a packet of the flood has passed, after more of it have been dropped. */
  async function isDenied(hasPassed: () => boolean): Promise<void> {
    const dropped = droppedPackets();
    assert.ok(await eventually(() => droppedPackets() > dropped), 'the flood goes on');
    assert.ok(!hasPassed(), 'a packet of the flood has passed');
  }

  /** All packets that rules, the ends of tiers and Profiles have denied. */
  function droppedPackets(): number {
    const counts = lab.agent.managers.counters.counts();
    return counts.reduce((sum, { packets }) => sum + Number(packets), 0);
  }
}

/** Packets of a stream have no number. */
const floodId = 0;

/** A world in which the Profile of the endpoints allows everything. */
function open(policies: readonly ReferencePolicy[], more: readonly IpAddress[] = []): World {
  const allow = [{ action: 'Allow' as const }];
  const endpoint = (address: IpAddress) => ({
    namespace: 'libnetwork',
    addresses: [address],
    labels: { role: 'db' },
    profiles: ['open'],
  });
  return {
    tiers: new Map([
      ['default', { order: 10 }],
      ['security', { order: 1, defaultAction: 'Pass' }],
    ]),
    policies,
    profiles: new Map([['open', { ingress: allow, egress: allow }]]),
    endpoints: [here, peer, ...more].map(endpoint),
    sets: [],
  };
}

/** The same with what a denial says. */
function denied(
  { policies = [], isWithoutProfile = false }: Denial = {},
  more: readonly IpAddress[] = [],
): World {
  const of = open(policies, more);
  return isWithoutProfile ? { ...of, profiles: new Map() } : of;
}

const deny: PolicyRule = { action: 'Deny', protocol: 'UDP', destination: { ports: [80] } };
const gnp = (name: string, spec: ReferencePolicy['spec']): ReferencePolicy => ({
  kind: 'GlobalNetworkPolicy',
  name,
  spec,
});

/** Policies, some of them invalid as stored. */
interface Denial {
  readonly policies?: readonly ReferencePolicy[];
  /** The text of the `spec` of invalid ones. */
  readonly invalid?: readonly string[];
  /** The Profile of the endpoints does not exist. */
  readonly isWithoutProfile?: boolean;
}

/** Policies that all deny UDP to port 80 of the endpoints here. */
const denials: readonly Denial[] = [
  { policies: [gnp('a', { types: ['Ingress'] })] },
  { policies: [gnp('b', { selector: "role == 'db'", ingress: [deny] })] },
  { policies: [gnp('a', { tier: 'security', ingress: [deny, { action: 'Pass' }] })] },
  {
    policies: [
      gnp('a', { order: 1, ingress: [deny] }),
      gnp('b', { order: 2, selector: 'has(role)', ingress: [{ action: 'Allow' }] }),
    ],
  },
  {
    policies: [
      { kind: 'NetworkPolicy', namespace: 'libnetwork', name: 'a', spec: { types: ['Ingress'] } },
    ],
  },
  { policies: [gnp('a', { tier: 'missing', ingress: [{ action: 'Allow', protocol: 'TCP' }] })] },
  { policies: [gnp('a', { selector: 'has(', ingress: [{ action: 'Allow' }] })] },
  {
    policies: [
      gnp('b', {
        selector: "role == 'db'",
        ingress: [{ action: 'Allow', source: { selector: "role == 'db'" } }],
      }),
    ],
  },
  {
    policies: [
      gnp('guard', { tier: 'security', ingress: [{ action: 'Pass' }] }),
      gnp('a', { order: 3 }),
    ],
  },
  // An action, a field and a selector that nobody knows, and a text that is cut off.
  { invalid: ['{"types": ["Ingress"], "ingress": [{"action": "Perhaps"}]}'] },
  { invalid: ['{"ingress": [{"action": "Allow", "source": {"planet": "Mars"}}]}'] },
  { invalid: ['{"selector": 5, "ingress": [{"action": "Allow"}]}'] },
  { invalid: ['{"ingress": [{"action": "Allow"'] },
  { isWithoutProfile: true },
];

function text<K extends EntryKind>(
  kind: K,
  id: string,
  value: EntryValue<K>,
): readonly [string, string] {
  const { key, encode } = entryTypeOf[kind];
  return [key(id), encode(value)];
}

/** A GlobalNetworkPolicy with a `spec` of any form, by key. */
function invalidPolicy(spec: string, index: number): readonly [string, string] {
  const name = `invalid-${index}`;
  const head = `"kind":"GlobalNetworkPolicy","apiVersion":"${apiVersion}"`;
  return [
    entryTypeOf.GlobalNetworkPolicy.key(name),
    `{${head},"metadata":{"name":"${name}"},"spec":${spec}}`,
  ];
}

/** Returns what is stored of a world, by key. */
function* textsOf(of: World): Generator<readonly [key: string, text: string]> {
  for (const [name, spec] of of.tiers) {
    yield text('Tier', name, { kind: 'Tier', apiVersion, metadata: { name }, spec });
  }
  for (const [name, { ingress = [], egress = [] }] of of.profiles) {
    const spec = { ingress: [...ingress], egress: [...egress] };
    yield text('Profile', name, { kind: 'Profile', apiVersion, metadata: { name }, spec });
  }
  for (const { kind, namespace: inside_, name, spec } of of.policies) {
    const { types, ingress = [], egress = [], ...rest } = spec;
    const all = {
      ...rest,
      ...(types === undefined ? {} : { types: [...types] }),
      ingress: [...ingress],
      egress: [...egress],
    };
    const metadata = { name, ...(inside_ === undefined ? {} : { namespace: inside_ }) };
    yield kind === 'NetworkPolicy'
      ? text(kind, `${inside_}/${name}`, { kind, apiVersion, metadata, spec: all })
      : text('GlobalNetworkPolicy', name, {
          kind: 'GlobalNetworkPolicy',
          apiVersion,
          metadata,
          spec: all,
        });
  }
  for (const [index, one] of of.endpoints.entries()) {
    const name = [...locals, 'new'][index] ?? 'new';
    yield text('WorkloadEndpoint', endpointId(name), endpointOf(name, one));
  }
}

function endpointOf(name: string, of: ReferenceEndpoint): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name,
      namespace: of.namespace,
      labels: { ...of.labels, 'projectcalico.org/namespace': of.namespace },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: name,
      ipNetworks: of.addresses.map(hostCidr),
      profiles: [...of.profiles],
      interfaceName: `cali${name}`,
    },
  };
}
