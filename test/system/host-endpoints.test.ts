import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readHostRules, restoreHostRules } from '../../src/dataplane/host-rules-file.ts';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { openKernelSockets } from '../../src/dataplane/kernel-sockets.ts';
import { flushFlows } from '../../src/dataplane/netlink/conntrack.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { ToolRunner } from '../../src/dataplane/process.ts';
import type { Draft } from '../../src/datastore/writer.ts';
import type { IpAddress } from '../../src/ip/address.ts';
import type { FelixConfiguration } from '../../src/model/kinds/felix-configuration.ts';
import type { GlobalNetworkPolicy } from '../../src/model/kinds/global-network-policy.ts';
import type { HostEndpoint } from '../../src/model/kinds/host-endpoint.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import { makeContainerNamespace } from '../lab/container-namespace.ts';
import {
  addresses,
  apiVersion,
  destroyIfUnused,
  gnp,
  hep,
  packetOf,
  send,
} from '../lab/host-endpoint-cases.ts';
import { here as node, KernelAgent } from '../lab/kernel-agent.ts';
import { unlessLong } from '../lab/long.ts';
import { enterNewNamespace } from '../lab/namespace.ts';
import { eventually } from '../lab/poll.ts';
import type { Stream } from '../lab/packet-streams.ts';
import { probePacket, ProbeReceiver } from '../lab/raw-packets.ts';

const namespace = enterNewNamespace();
const libc = loadLibc();
const conntrack = NetlinkSocket.open(libc, 12);
after(() => {
  conntrack.close();
  namespace[Symbol.dispose]();
});

const sh = (script: string) => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });
const netns = (name: string) => `${namespace.name}-${name}`;

const others = ['out', 'lan', 'here'] as const;
type Place = 'host' | (typeof others)[number];

const placeOf = (address: IpAddress): Place => {
  const found = others.find((name) => addresses[name] === address);
  return found ?? 'host';
};

const deny: PolicyRule = { action: 'Deny', protocol: 'UDP', destination: { ports: [1000] } };

// Legacy and nft differ in the driver alone, which other suites test.
for (const backend of unlessLong() === false ? (['nft', 'legacy'] as const) : (['nft'] as const)) {
  describe(`host endpoints, iptables-${backend}`, { timeout: 300_000 }, () => guards(backend));
}

function guards(backend: Backend): void {
  let lab: KernelAgent;
  const receivers = new Map<Place, ProbeReceiver>();
  let last = 0;
  let hasEnded = false;
  let written: readonly ((draft: Draft) => void)[] = [];

  const publish = `iptables-${backend} -t nat -A PREROUTING -d 203.0.113.2 -p udp --dport 8080 -j DNAT --to-destination 172.20.0.2:80`;

  const inside = <T>(place: Place, what: () => T): T =>
    place === 'host' ? what() : inNetworkNamespace(libc, `/run/netns/${netns(place)}`, what);

  before(async () => {
    lab = await KernelAgent.start(backend);
    sh(`sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        sysctl -qw net.ipv4.icmp_ratelimit=0`);
    await lab.join({
      name: 'here',
      networks: ['10.65.0.1/32'],
      profiles: ['projectcalico-default-allow'],
      interfaceName: 'calihere',
    });
    makeContainerNamespace({
      name: 'here',
      netns: netns('here'),
      interfaceName: 'calihere',
      address4: addresses.here,
      address6: 'fd65::1',
    });
    sh(`ip netns add ${netns('out')}
        ip link add uplink type veth peer name eth0 netns ${netns('out')}
        ip address add 203.0.113.2/24 dev uplink
        ip link set uplink up
        ip -n ${netns('out')} link set lo up
        ip -n ${netns('out')} address add 203.0.113.1/24 dev eth0
        ip -n ${netns('out')} link set eth0 up
        ip -n ${netns('out')} route add 172.20.0.0/24 via 203.0.113.2
        ip -n ${netns('out')} route add 10.65.0.0/24 via 203.0.113.2
        ip netns add ${netns('lan')}
        ip link add br-lan type veth peer name eth0 netns ${netns('lan')}
        ip address add 172.20.0.1/24 dev br-lan
        ip link set br-lan up
        ip -n ${netns('lan')} link set lo up
        ip -n ${netns('lan')} address add 172.20.0.2/24 dev eth0
        ip -n ${netns('lan')} link set eth0 up
        ip -n ${netns('lan')} route add default via 172.20.0.1
        ${publish}`);
    receivers.set('host', new ProbeReceiver(libc));
    for (const name of others) {
      receivers.set(
        name,
        inside(name, () => new ProbeReceiver(libc)),
      );
    }
  });
  after(async () => {
    for (const receiver of receivers.values()) receiver[Symbol.dispose]();
    if (!hasEnded) await lab[Symbol.asyncDispose]();
    for (const name of others) sh(`ip netns del ${netns(name)}`);
    sh(`for table in raw mangle nat filter; do
          iptables-${backend} -t $table -F; ip6tables-${backend} -t $table -F
        done`);
  });

  /** Replaces the resources, and waits until the kernel has them. */
  async function set(
    resources: readonly (HostEndpoint | GlobalNetworkPolicy | FelixConfiguration)[],
  ): Promise<void> {
    await lab.write((draft) => {
      for (const remove of written) remove(draft);
      for (const one of resources) {
        if (one.kind === 'HostEndpoint') draft.put(one.kind, one.metadata.name, one);
        if (one.kind === 'GlobalNetworkPolicy') draft.put(one.kind, one.metadata.name, one);
        if (one.kind === 'FelixConfiguration') draft.put(one.kind, one.metadata.name, one);
      }
    });
    written = resources.map(
      ({ kind, metadata }) =>
        (draft: Draft) =>
          draft.remove(kind, metadata.name),
    );
    await lab.settled();
  }

  /** Checks which packets arrive: all of `passes`, none of `stops`. `at` is where one arrives that is translated. */
  async function check(
    passes: readonly string[],
    stops: readonly string[],
    at: Partial<Record<string, Place>> = {},
  ): Promise<void> {
    flushFlows(conntrack, [4], () => true);
    const sendProbe = (text: string) => {
      const packet = packetOf(text, 1000 + (last % 60_000));
      const id = ++last;
      inside(placeOf(packet.source), () =>
        send(libc, probePacket({ ...packet, id }), packet.destination),
      );
      const place = at[text] ?? placeOf(packet.destination);
      return { text, has: () => receivers.get(place)?.arrived().has(id) === true };
    };
    const stopping = stops.map(sendProbe);
    const passing = passes.map(sendProbe);
    for (const { text, has } of passing) assert.ok(has() || (await eventually(has)), text);
    // What was sent before has arrived before.
    for (const { text, has } of stopping) assert.ok(!has(), `${text} must not arrive`);
  }

  const all = [
    'udp out -> host:1000',
    'udp host -> out:1000',
    'udp lan -> bridge:1000',
    'udp host -> lan:1000',
    'udp lo -> lo:1000',
    'udp here -> out:1000',
    'udp out -> here:1000',
    'udp lan -> out:1000',
    'udp out -> lan:1000',
    'udp host -> here:1000',
    'udp here -> host:1000',
  ];
  const forwarded = all.filter((text) => !/host|bridge|lo /.test(text));
  const ofContainers = ['udp host -> here:1000', 'udp here -> host:1000'];

  test('without host endpoints everything passes; with one that denies all, only failsafe ports and connections', async () => {
    await check(all, []);
    const server = createServer((client) => client.end('welcome\n')).listen(22, '203.0.113.2');
    await once(server, 'listening');
    const chat = spawn('ip', [
      'netns',
      'exec',
      netns('out'),
      'bash',
      '-c',
      'read -r; exec 3<>/dev/tcp/203.0.113.2/22; cat <&3',
    ]);
    await set([hep({})]);
    await check(
      [
        ...forwarded,
        ...ofContainers,
        'udp lo -> lo:1000',
        'tcp out -> host:22',
        'tcp out -> host:2377',
        'udp out -> host:4789',
        'tcp lan -> bridge:7946',
        'udp host -> out:53',
        'tcp host -> out:2379',
        'udp host -> out:7946',
      ],
      [
        'udp out -> host:1000',
        'udp host -> out:1000',
        'udp lan -> bridge:1000',
        'tcp host -> out:22',
      ],
    );
    let said = '';
    chat.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    chat.stdin.end('\n');
    await once(chat, 'exit');
    server.close();
    assert.equal(said, 'welcome\n', 'a new connection to port 22, with its replies');
  });

  test('FelixConfiguration says which ports stay open', async () => {
    await set([
      hep({}),
      {
        kind: 'FelixConfiguration',
        apiVersion,
        metadata: { name: 'default' },
        spec: {
          failsafeInboundHostPorts: [{ protocol: 'udp', port: 1000, net: '203.0.113.1/32' }],
          failsafeOutboundHostPorts: [],
        },
      },
    ]);
    await check(
      ['udp out -> host:1000', 'udp lo -> lo:1000'],
      ['tcp out -> host:22', 'udp lan -> bridge:1000', 'udp host -> out:53'],
    );
  });

  test('policies and Profiles of the host decide; bridge containers survive a sensible policy', async () => {
    const sensible = gnp('sensible', {
      types: ['Ingress'],
      ingress: [{ action: 'Allow', protocol: 'UDP', destination: { ports: [1000] } }],
    });
    await set([hep({ profiles: ['projectcalico-default-allow'] }), sensible]);
    await check(all, ['udp out -> host:1001', 'tcp lan -> bridge:1000']);
    await set([hep({ profiles: ['projectcalico-default-allow'] })]);
    await check([...all, 'udp out -> host:1001'], []);
    await set([
      hep({ interfaceName: 'uplink', profiles: ['none'] }),
      gnp('elsewhere', { selector: "role == 'other'", ingress: [{ action: 'Allow' }] }),
    ]);
    await check(
      ['udp lan -> bridge:1000', 'udp host -> lan:1000'],
      ['udp out -> host:1000', 'udp host -> out:1000'],
    );
  });

  test('a host endpoint by address covers the interface that has it, also when it gets it later', async () => {
    const { interfaceName: _, ...spec } = hep({ expectedIPs: ['172.20.0.9', '172.20.9.9'] }).spec;
    await set([{ ...hep({}), spec }]);
    await check(['udp out -> host:1000', 'udp lan -> bridge:1000'], []);
    sh('ip address add 172.20.0.9/24 dev br-lan');
    const isCovered = () =>
      lab.status().checks.some(({ detail }) => detail.includes('covers br-lan'));
    assert.ok(await eventually(isCovered));
    await lab.settled();
    await check(['udp out -> host:1000'], ['udp lan -> bridge:1000']);
    sh('ip address del 172.20.0.9/24 dev br-lan');
  });

  test('forwarded packets meet only policies with applyOnForward, in both directions', async () => {
    const open = hep({ profiles: ['projectcalico-default-allow'] });
    await set([open, gnp('guard', { types: ['Ingress'], ingress: [deny, { action: 'Allow' }] })]);
    await check(forwarded, ['udp out -> host:1000']);
    const onForward = { applyOnForward: true, types: ['Ingress' as const] };
    await set([open, gnp('guard', { ...onForward, ingress: [deny, { action: 'Allow' }] })]);
    await check(
      ['udp here -> out:1000', 'udp out -> here:1001', 'udp lan -> out:1001'],
      ['udp out -> here:1000', 'udp lan -> out:1000', 'udp out -> lan:1000'],
    );
    await set([
      open,
      gnp('guard', {
        applyOnForward: true,
        types: ['Egress'],
        egress: [deny, { action: 'Allow' }],
      }),
    ]);
    await check(
      ['udp out -> here:1000', 'udp here -> out:1001'],
      ['udp here -> out:1000', 'udp lan -> out:1000', 'udp host -> out:1000'],
    );
  });

  test('a preDNAT policy stands before published ports', async () => {
    const published = 'udp out -> host:8080';
    const at = { [published]: 'lan' } as const;
    const open = hep({ profiles: ['projectcalico-default-allow'] });
    await set([open]);
    await check([published], [], at);
    const preDnat = { preDNAT: true, applyOnForward: true, types: ['Ingress' as const] };
    const denyPorts = (ports: number[]): PolicyRule => ({ ...deny, destination: { ports } });
    await set([open, gnp('before', { ...preDnat, ingress: [denyPorts([8080])] })]);
    await check(['udp out -> host:1000', 'udp lan -> out:1000'], [published], at);
    // The port of the container is not that of the packet there.
    await set([open, gnp('before', { ...preDnat, ingress: [denyPorts([80])] })]);
    await check([published], ['udp out -> host:80'], at);
    // What it allows meets no other policy on arrival; what it does not decide does.
    await set([
      hep({}),
      gnp('before', {
        ...preDnat,
        ingress: [{ action: 'Allow', protocol: 'UDP', destination: { ports: [1000] } }],
      }),
    ]);
    await check(['udp out -> host:1000', published], ['udp out -> host:1001'], at);
  });

  test('a doNotTrack policy decides before connection tracking, and replies need their own rule', async () => {
    const untracked = { doNotTrack: true, applyOnForward: true };
    const rule = (side: 'source' | 'destination') => ({
      action: 'Allow' as const,
      protocol: 'UDP' as const,
      [side]: { ports: [1000] },
    });
    const both = gnp('fast', {
      ...untracked,
      types: ['Ingress', 'Egress'],
      ingress: [rule('destination')],
      egress: [rule('source')],
    });
    await set([hep({}), both]);
    await check(['udp out -> host:1000'], ['udp out -> host:1001', 'udp host -> out:1001']);
    assert.ok(!flowsOf(1000), 'its flow is not tracked');
    const answer = (id: number) =>
      probePacket({
        id,
        protocol: 17,
        source: addresses.host,
        destination: addresses.out,
        sourcePort: 1000,
        destinationPort: 999,
      });
    const answered = async (isExpected: boolean) => {
      const id = ++last;
      send(libc, answer(id), addresses.out);
      const has = () => receivers.get('out')?.arrived().has(id) === true;
      if (isExpected) assert.ok(await eventually(has), 'the answer arrives');
      else {
        await check(['udp host -> out:53'], []);
        assert.ok(!has(), 'the answer must not arrive');
      }
    };
    await answered(true);
    await set([
      hep({}),
      gnp('fast', { ...untracked, types: ['Ingress'], ingress: [rule('destination')] }),
    ]);
    await check(['udp out -> host:1000'], []);
    await answered(false);
    // It denies forwarded packets too, and never failsafe ports.
    await set([
      hep({ profiles: ['projectcalico-default-allow'] }),
      gnp('fast', { ...untracked, types: ['Ingress'], ingress: [{ action: 'Deny' }] }),
    ]);
    await check(
      ['tcp out -> host:22', 'udp host -> out:1000', 'udp here -> out:1000'],
      ['udp out -> host:1000', 'udp out -> here:1000', 'tcp out -> lan:80'],
    );
    // NOTRACK disables the NAT of published ports.
    await set([
      hep({ profiles: ['projectcalico-default-allow'] }),
      gnp('fast', {
        ...untracked,
        types: ['Ingress'],
        ingress: [{ action: 'Allow', protocol: 'UDP', destination: { ports: [8080] } }],
      }),
    ]);
    await check(['udp out -> host:8080'], []);
  });

  function flowsOf(port: number): boolean {
    let isThere = false;
    flushFlows(conntrack, [4], (flow) => {
      if (flow.destinationPort === port) isThere = true;
      return false;
    });
    return isThere;
  }

  test('status counts what host endpoints drop, by rule and interface, in each table', async () => {
    const dropped = (rule: string) => {
      const found = lab
        .status()
        .drops.filter((one) => one.container === 'HostEndpoint all' && one.rule === rule);
      return found.reduce((sum, { packets }) => sum + packets, 0);
    };
    const rises = async (
      packets: readonly string[],
      expected: Readonly<Record<string, number>>,
    ) => {
      const rules = Object.keys(expected);
      const before = rules.map(dropped);
      const times = 3;
      for (let n = 0; n < times; n++) await check(['udp lo -> lo:1000'], packets);
      const rise = rules.map((rule, index) => dropped(rule) - (before[index] ?? 0));
      const sent = Object.values(expected).map((each) => each * times);
      assert.deepEqual(rise, sent, rules.join(', '));
    };
    const guard = (spec: GlobalNetworkPolicy['spec']) => [
      hep({}),
      gnp('guard', { applyOnForward: true, types: ['Ingress'], ...spec }),
    ];
    await set(guard({ ingress: [{ action: 'Allow', protocol: 'TCP' }, deny] }));
    await rises(
      [
        'udp out -> host:1000',
        'udp out -> here:1000',
        'udp lan -> bridge:1000',
        'udp out -> host:1001',
        'udp host -> out:1000',
        'udp host -> out:1001',
      ],
      {
        'inbound on uplink: GlobalNetworkPolicy guard, rule 2': 2,
        'inbound on br-lan: GlobalNetworkPolicy guard, rule 2': 1,
        'inbound on uplink: no matching rule': 1,
        'outbound on uplink: no matching rule': 2,
      },
    );
    await set(guard({ types: ['Egress'], egress: [deny, { action: 'Allow' }] }));
    await rises(['udp here -> out:1000', 'udp host -> out:1000'], {
      'outbound on uplink: GlobalNetworkPolicy guard, rule 1': 2,
    });
    for (const stage of [{ preDNAT: true }, { doNotTrack: true }]) {
      await set(guard({ ...stage, ingress: [deny] }));
      await rises(['udp out -> host:1000', 'udp lan -> out:1000'], {
        'inbound on uplink: GlobalNetworkPolicy guard, rule 1': 1,
        'inbound on br-lan: GlobalNetworkPolicy guard, rule 1': 1,
      });
    }
    await set([]);
    assert.deepEqual(
      lab.status().drops.filter(({ container }) => container.startsWith('HostEndpoint')),
      [],
    );
  });

  test('a policy that moves between the tables opens no gap', async () => {
    const open = hep({ profiles: ['projectcalico-default-allow'] });
    const places: readonly GlobalNetworkPolicy['spec'][] = [
      { types: ['Ingress'], ingress: [deny, { action: 'Allow' }] },
      { doNotTrack: true, applyOnForward: true, types: ['Ingress'], ingress: [deny] },
      { preDNAT: true, applyOnForward: true, types: ['Ingress'], ingress: [deny] },
    ];
    const stream = {
      namespace: netns('out'),
      protocol: 'udp',
      source: addresses.out,
      destination: addresses.host,
      from: 999,
      to: 1000,
      tos: 0,
    } satisfies Stream;
    const script = fileURLToPath(new URL('../lab/packet-streams.ts', import.meta.url));
    const flood = spawn(process.execPath, [script, JSON.stringify([stream])], { stdio: 'inherit' });
    const hasPassed = () => receivers.get('host')?.arrived().has(0) === true;
    try {
      await set([open]);
      assert.ok(await eventually(hasPassed), 'without policies the flood passes');
      await set([open, gnp('moving', places[0] ?? {})]);
      flushFlows(conntrack, [4], () => true);
      await lab.settled();
      receivers.get('host')?.forget();
      const moves = unlessLong() === false ? 300 : 12;
      for (let move = 1; move <= moves; move++) {
        await set([open, gnp('moving', places[(move * 2) % 3] ?? {})]);
        assert.ok(!hasPassed(), `a packet has passed in move ${move}`);
      }
      await set([open]);
      assert.ok(await eventually(hasPassed), 'the flood goes on');
    } finally {
      flood.kill('SIGKILL');
      await once(flood, 'exit');
    }
  });

  test('an invalid host endpoint denies what it covers, except failsafe ports, and status names it', async () => {
    await set([]);
    await lab.write((draft) =>
      draft.put('HostEndpoint', 'all', hep({ profiles: ['projectcalico-default-allow'] })),
    );
    const key = '/calico/resources/v3/projectcalico.org/hostendpoints/all';
    const value = JSON.stringify({
      ...hep({}),
      spec: { node, interfaceName: 'uplink', profiles: 'open' },
    });
    await lab.store.datastore.commit(
      { compares: [], writes: [{ key, value }] },
      AbortSignal.timeout(20_000),
    );
    const named = () =>
      lab.status().checks.find(({ name, ok }) => name === 'HostEndpoint all' && !ok)?.detail ?? '';
    assert.ok(await eventually(() => /is invalid.*denies.* uplink/.test(named())), named());
    await lab.settled();
    await check(
      [...forwarded, 'tcp out -> host:22', 'udp lan -> bridge:1000'],
      ['udp out -> host:1000', 'udp host -> out:1000'],
    );
    await lab.write((draft) => draft.discardUnreadable('HostEndpoint', 'all'));
    assert.ok(await eventually(() => named() === ''));
    await lab.settled();
    await check(all, []);
  });

  test('a host that boots has the rules of the last run before its daemon', async () => {
    const ingress: PolicyRule[] = [
      { action: 'Allow', protocol: 'UDP', source: { selector: "role == 'friend'" } },
    ];
    const friend = {
      ...hep({ expectedIPs: ['172.20.0.2'] }, { role: 'friend' }).spec,
      node: 'other',
    };
    await set([
      hep({}),
      {
        ...hep({}, { role: 'friend' }),
        metadata: { name: 'friend', labels: { role: 'friend' } },
        spec: friend,
      },
      gnp('friends', { types: ['Ingress'], ingress }),
      gnp('before', {
        preDNAT: true,
        applyOnForward: true,
        types: ['Ingress'],
        ingress: [{ ...deny, destination: { ports: [8080] } }],
      }),
    ]);
    const stages = lab.agent.managers.policy.guardedStages ?? assert.fail();
    const saved = lab.kernel.savedHostRules(stages);
    await lab[Symbol.asyncDispose]();
    hasEnded = true;
    sh(`for tool in iptables-${backend} ip6tables-${backend}; do
          for table in raw mangle nat filter; do $tool -t $table -F; $tool -t $table -X; done
        done
        ${publish}`);
    const sockets = openKernelSockets();
    try {
      const ports = { 'udp out -> host:8080': 'lan' } as const;
      await check(['udp out -> host:1000', 'udp out -> host:8080'], [], ports);
      for (const { name } of sockets.ipset.list()) {
        if (name.startsWith('cali')) destroyIfUnused(() => sockets.ipset.destroy(name));
      }
      const folder = mkdtempSync(join(tmpdir(), 'host-rules-'));
      const file = join(folder, 'host-rules.json');
      writeFileSync(file, JSON.stringify(saved));
      const read = readHostRules(file) ?? assert.fail();
      rmSync(folder, { recursive: true });
      const boot = () =>
        restoreHostRules(
          read,
          { ipset: sockets.ipset, runner: new ToolRunner() },
          AbortSignal.timeout(20_000),
        );
      await boot();
      const isAsBefore = () =>
        check(
          ['tcp out -> host:22', 'udp lan -> bridge:1000', 'udp lan -> out:1000', 'udp lo -> lo:1'],
          ['udp out -> host:1000', 'udp host -> out:1000', 'udp out -> host:8080'],
          ports,
        );
      await isAsBefore();
      await boot();
      await isAsBefore();
    } finally {
      sockets.close();
    }
  });
}
