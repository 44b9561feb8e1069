import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { stackOf } from '../../src/profiles/compile/stack.ts';
import { stackChain } from '../../src/render/iptables/names.ts';
import { directions } from '../../src/ruleset/policy.ts';
import { checkout } from '../lab/built.ts';
import { startHost, type Host } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import type { Stream } from '../lab/packet-streams.ts';
import type { BackgroundProcess } from '../lab/process.ts';
import { callPlugin } from '../lab/plugin-client.ts';
import { patienceMs } from '../lab/poll.ts';

const NetworkID = 'd1'.repeat(32);
const address = { 4: '10.97.0.9', 6: 'fd00:97::9' } as const;
const peer = { 4: '10.97.0.2', 6: 'fd00:97::2' } as const;
/** The mark of what the new owner sends. */
const heirTos = 0x28;
/** Where the server outside listens. */
const serverPort = 5555;
const families = [4, 6] as const;

/**
 * One address goes from container to container while a peer, a client of a published port and a server outside go
 * on as if nothing had changed; and the new owner sends what the former one sent. Docker's part is played by the
 * test, as a container takes it half a second.
 */
describe('an address that is handed over', { timeout: 3_600_000 }, () => {
  let host: Host;
  let docker: Server;
  let sending: BackgroundProcess | undefined;
  /** The containers that Docker has, by endpoint. */
  const containers = new Map<string, string>();
  let pools: readonly string[] = [];
  before(async () => {
    host = await startHost({ engine: '20.10', backend: 'nft', uplink: true });
    docker = await standInForDocker(host, containers);
    await host.startCalico({ CALICO_CREATE_PROFILES: 'false' });
    await prepare(host);
    pools = await createNetwork(host);
    const { id, at } = await start('peer', 'peer', peer);
    await plug('peer', { id, at, of: peer });
    const node = `${checkout}/node_modules/.bin/node`;
    const talk = [node, `${checkout}/test/lab/talk.ts`];
    host.spawn(['ip', 'netns', 'exec', 'router', ...talk, 'serve', String(serverPort)]);
    const streaming = [node, `${checkout}/test/lab/packet-streams.ts`];
    sending = host.spawn([...streaming, JSON.stringify(streams())]);
  });
  after(async () => {
    await sending?.end('SIGKILL');
    docker.close();
    docker.closeAllConnections();
    await host[Symbol.asyncDispose]();
  });

  const call = async (method: string, body: object) => {
    const answer = await callPlugin(host.path('/run/docker/plugins/calico.sock'), method, body);
    assert.equal(answer.status, 200, `${method}: ${answer.text}`);
    return answer.body;
  };

  /** What Docker does when a container starts, up to Join; answers what it got. */
  const start = async (name: string, profile: string, of: Readonly<Record<4 | 6, string>>) => {
    const id = randomBytes(32).toString('hex');
    for (const [index, family] of families.entries())
      await call('IpamDriver.RequestAddress', { PoolID: pools[index], Address: of[family] });
    await call('NetworkDriver.CreateEndpoint', {
      NetworkID,
      EndpointID: id,
      Interface: { Address: `${of[4]}/32`, AddressIPv6: `${of[6]}/128`, MacAddress: '' },
      Options: { 'org.projectcalico.profile': profile },
    });
    containers.set(id, name);
    const at = await call('NetworkDriver.Join', {
      NetworkID,
      EndpointID: id,
      SandboxKey: `/var/run/docker/netns/${id.slice(0, 12)}`,
      Options: {},
    });
    return { id, at };
  };

  /** Moves the interface into the container, as Docker does after Join. */
  const plug = async (
    namespace: string,
    container: {
      readonly id: string;
      readonly at: Readonly<Record<string, unknown>>;
      readonly of: Readonly<Record<4 | 6, string>>;
    },
  ) => {
    const { at, of } = container;
    const name = /"SrcName":"([^"]+)"/.exec(JSON.stringify(at))?.[1] ?? assert.fail();
    await host.run(
      ['sh', '-ec', `ip link set ${name} netns ${namespace}; ip -n ${namespace} -batch -`],
      {
        input: `link set ${name} up
          address add ${of[4]}/32 dev ${name}
          address add ${of[6]}/128 dev ${name} nodad
          route add ${String(at['Gateway'])} dev ${name}
          route add default via ${String(at['Gateway'])} dev ${name}
          route add ::/0 via ${String(at['GatewayIPv6'])} dev ${name}\n`,
      },
    );
  };

  const stop = async (id: string) => {
    await call('NetworkDriver.Leave', { NetworkID, EndpointID: id });
    await call('NetworkDriver.DeleteEndpoint', { NetworkID, EndpointID: id });
    containers.delete(id);
    for (const [index, family] of families.entries())
      await call('IpamDriver.ReleaseAddress', { PoolID: pools[index], Address: address[family] });
  };

  const eventually = async (ask: () => Promise<boolean>, what: string) => {
    for (const end = Date.now() + patienceMs; !(await ask());) {
      assert.ok(Date.now() < end, `${what}\n${host.calicoLog()}`);
      await sleep(5);
    }
  };

  /** All flows of the address have been answered: to the kernel they are established. */
  const areEstablished = async () => {
    const list = `for family in ipv4 ipv6; do conntrack -L -f $family 2>/dev/null; done |
      grep -v UNREPLIED | grep -c "src=${address[4]} \\|src=${address[6]} "; true`;
    return Number(await host.run(['sh', '-c', list])) === flows.length * 2 + 2;
  };

  /** How often the policy of new owners was asked, by family and direction. */
  const judged = async (): Promise<readonly number[]> => {
    const chains = directions.map((direction) => stackChain(direction, stackOf([], ['nothing'])));
    const list = chains
      .map((chain) => `$tool -nvxL ${chain} 2>/dev/null | grep ' cali-pr[io]-nothing '`)
      .join('; ');
    const all = `for tool in iptables ip6tables; do ${list}; done`;
    return (await host.run(['sh', '-c', all])).split('\n').map((line) => Number.parseInt(line, 10));
  };

  const handOver = async (n: number) => {
    const former = await start(`former${n}`, 'former', address);
    await plug('former', { ...former, of: address });
    await call('NetworkDriver.ProgramExternalConnectivity', {
      NetworkID,
      EndpointID: former.id,
      Options: { 'com.docker.network.portmap': [{ Proto: 17, Port: 2222, HostPort: 8080 }] },
    });
    await eventually(areEstablished, 'the flows of the former owner are established');
    await stop(former.id);
    // The steps of both meet at different moments.
    if (n % 2 === 0) await sleep(n % 17);
    const heir = await start(`heir${n}`, 'nothing', address);
    if (n % 3 === 0) await sleep(n % 13);
    const before = await judged();
    await plug('heir', { ...heir, of: address });
    const areRefused = async () => {
      const now = await judged();
      return now.length === 4 && now.every((count, index) => count > (before[index] ?? 0) + 5);
    };
    await eventually(areRefused, 'the streams reach the new owner');
    await stop(heir.id);
  };

  /** Packets that came where they should not, by the rules that count them. */
  const passed = async () => {
    const lists = ['heir', 'peer', 'router'].map(
      (name) => `ip netns exec ${name} $tool -t raw -nvxL counted | sed 's/^/${name} /'`,
    );
    const all = `for tool in iptables ip6tables; do ${lists.join('; ')}; done`;
    const listed = await host.run(['sh', '-ec', all]);
    return listed.split('\n').filter((line) => /^\w+ +[1-9]\d* /.test(line));
  };

  const handOverTimes = async (times: number) => {
    for (let n = 0; n < times; n++) {
      await handOver(n);
      assert.deepEqual(await passed(), [], `packets passed in handover ${n}`);
    }
  };

  test('no packet of its former owner passes, in either direction', () => handOverTimes(24));

  test('nor in a thousand handovers', { skip: unlessLong() }, () => handOverTimes(1000));
});

/** Flows between peer and address: of each protocol one that the peer began, and one that the address began. */
const flows = [
  { protocol: 'icmp', begunBy: 'peer', from: 1, to: 0 },
  { protocol: 'udp', begunBy: 'peer', from: 1111, to: 2222 },
  { protocol: 'tcp', begunBy: 'peer', from: 1111, to: 2222 },
  { protocol: 'icmp', begunBy: 'address', from: 2, to: 0 },
  { protocol: 'udp', begunBy: 'address', from: 3333, to: 4444 },
  { protocol: 'tcp', begunBy: 'address', from: 3333, to: 4444 },
] as const;

function streams(): readonly Stream[] {
  const between = families.flatMap((family) =>
    flows.flatMap(({ protocol, begunBy, from, to }) => {
      const way = { source: peer[family], destination: address[family] };
      const back = { source: address[family], destination: peer[family] };
      const request = { protocol, from, to };
      const answer =
        protocol === 'icmp' ? { protocol, from, to: 1 } : { protocol, from: to, to: from };
      const [ofPeer, ofAddress] = begunBy === 'peer' ? [request, answer] : [answer, request];
      return [
        { namespace: 'peer', tos: 0, ...way, ...ofPeer },
        { namespace: 'former', tos: 0, ...back, ...ofAddress },
        { namespace: 'heir', tos: heirTos, ...back, ...ofAddress },
      ];
    }),
  );
  const { router, host } = uplinkAddresses;
  const udp = { protocol: 'udp', tos: 0 } as const;
  // A client of a published port, and a server outside, which sees the host in place of the container.
  const client: Stream = {
    ...udp,
    namespace: 'router',
    source: router,
    destination: host,
    from: 7777,
    to: 8080,
  };
  const outside = [
    { destination: router, from: 2222, to: 7777 },
    { destination: router, from: 6666, to: serverPort },
  ].flatMap((way): readonly Stream[] => [
    { ...udp, namespace: 'former', source: address[4], ...way },
    { ...udp, namespace: 'heir', source: address[4], ...way, tos: heirTos },
  ]);
  return [...between, client, ...outside];
}

/** Namespaces whose kernels answer nothing and count what must not come; Profiles that let flows begin in one way. */
async function prepare(host: Host): Promise<void> {
  const peers = { iptables: peer[4], ip6tables: peer[6] };
  const outside = [uplinkAddresses.router];
  const tools = ['iptables', 'ip6tables'] as const;
  const count = (name: string, tool: string, matches: readonly string[]) =>
    [
      `ip netns exec ${name} ${tool} -t raw -N counted`,
      `ip netns exec ${name} ${tool} -t raw -A PREROUTING -j counted`,
      ...matches.flatMap((match) =>
        ['udp', 'tcp', tool === 'iptables' ? 'icmp' : 'icmpv6'].map(
          (protocol) => `ip netns exec ${name} ${tool} -t raw -A counted -p ${protocol} ${match}`,
        ),
      ),
    ].join('\n');
  const silence = ['udp', 'tcp', 'icmp'].map((protocol) => `-p ${protocol}`);
  const silence6 = ['udp', 'tcp', 'icmpv6 --icmpv6-type echo-request'].map((one) => `-p ${one}`);
  const quiet = ['peer', 'former', 'heir', 'router'].flatMap((name) => [
    ...silence.map(
      (match) => `ip netns exec ${name} iptables -t raw -A PREROUTING ${match} -j DROP`,
    ),
    ...silence6.map(
      (match) => `ip netns exec ${name} ip6tables -t raw -A PREROUTING ${match} -j DROP`,
    ),
  ]);
  await host.run([
    'sh',
    '-ec',
    [
      'for name in peer former heir; do ip netns add $name; ip -n $name link set lo up; done',
      // As Docker does.
      'sysctl -qw net.ipv4.ip_forward=1',
      'sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1',
      // What belongs to no flow is not remembered.
      'iptables -I INPUT -p udp -i uplink -j DROP',
      ...tools.flatMap((tool) => [
        count('heir', tool, [
          `-s ${peers[tool]}`,
          ...(tool === 'iptables' ? outside.map((one) => `-s ${one}`) : []),
        ]),
        count('peer', tool, [`-m tos --tos ${heirTos}`]),
        count('router', tool, [`-m tos --tos ${heirTos}`]),
      ]),
      `ip netns exec router iptables -t raw -A PREROUTING -p udp --dport ${serverPort} -j ACCEPT`,
      ...quiet,
    ].join('\n'),
  ]);
  const allow = (matches: readonly object[]) =>
    matches.map((match) => ({ action: 'Allow', ...match }));
  const begins = (ports: readonly number[]) =>
    allow([
      { protocol: 'ICMP', icmp: { type: 8 } },
      { protocol: 'ICMPv6', icmp: { type: 128 } },
      { protocol: 'UDP', destination: { ports } },
      { protocol: 'TCP', destination: { ports } },
    ]);
  const profiles = {
    peer: { ingress: allow([{}]), egress: begins([2222]) },
    former: { ingress: allow([{}]), egress: begins([4444, serverPort]) },
    nothing: { ingress: [], egress: [] },
  };
  for (const [name, spec] of Object.entries(profiles)) {
    await host.run(['calico-cnm', 'apply', '-f', '-'], {
      input: JSON.stringify({
        apiVersion: 'projectcalico.org/v3',
        kind: 'Profile',
        metadata: { name },
        spec,
      }),
    });
  }
}

/** The network as Docker creates it; answers its pools. */
async function createNetwork(host: Host): Promise<readonly string[]> {
  const call = async (method: string, body: object) => {
    const answer = await callPlugin(host.path('/run/docker/plugins/calico.sock'), method, body);
    assert.equal(answer.status, 200, `${method}: ${answer.text}`);
    return answer.body;
  };
  const pool = (Pool: string, V6: boolean) =>
    call('IpamDriver.RequestPool', {
      AddressSpace: 'CalicoAddressSpace',
      Pool,
      SubPool: '',
      Options: null,
      V6,
    });
  const [four, six] = [await pool('10.97.0.0/24', false), await pool('fd00:97::/64', true)];
  const data = (body: Readonly<Record<string, unknown>>) => [
    {
      AddressSpace: 'CalicoAddressSpace',
      Pool: body['Pool'],
      Gateway: /"com.docker.network.gateway":"([^"]+)"/.exec(JSON.stringify(body))?.[1],
    },
  ];
  await call('NetworkDriver.CreateNetwork', {
    NetworkID,
    Options: { 'com.docker.network.generic': { profiles: 'nothing' } },
    IPv4Data: data(four),
    IPv6Data: data(six),
  });
  return [String(four['PoolID']), String(six['PoolID'])];
}

/** Answers what calico-cnm asks Docker: of one network, and of the containers on it. */
function standInForDocker(host: Host, containers: ReadonlyMap<string, string>): Promise<Server> {
  const network = () => ({
    Id: NetworkID,
    Name: 'handover',
    Driver: 'calico',
    IPAM: { Driver: 'calico-ipam', Options: {}, Config: [] },
    Containers: Object.fromEntries(
      [...containers].map(([EndpointID, Name]) => [`ep-${EndpointID}`, { Name, EndpointID }]),
    ),
  });
  const list = () =>
    [...containers].map(([EndpointID, name]) => ({
      Id: EndpointID,
      Names: [`/${name}`],
      State: 'running',
      Labels: {},
      NetworkSettings: { Networks: { handover: { EndpointID } } },
    }));
  const answers: Readonly<Record<string, () => unknown>> = {
    '/info': () => ({ ID: 'engine' }),
    '/networks': () => [network()],
    [`/networks/${NetworkID}`]: network,
    '/containers/json': list,
    '/plugins': () => [],
    '/services': () => [],
  };
  const server = createServer(({ url = '' }, response) => {
    const answer = answers[url.replace(/\?.*/, '')];
    response.writeHead(answer === undefined ? 404 : 200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(answer?.() ?? { message: 'not here' }));
  });
  return new Promise((resolve) => {
    server.listen(host.path('/run/docker.sock'), () => resolve(server));
  });
}
