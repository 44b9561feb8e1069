import assert from 'node:assert/strict';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { startEtcd, type Etcd } from '../lab/etcd.ts';
import { startHost, type Host } from '../lab/host.ts';

/**
 * A host whose etcd Calico's libnetwork-plugin of 2019 has filled, with the containers that it left running:
 * namespaces with veths as it made them. Docker is away all the while, so what it would say is sent to the
 * plugin's socket.
 */

const v3 = '/calico/resources/v3/projectcalico.org';
const node = 'old-host';
const [one, two, leaked] = ['10.99.0.10', '10.99.0.11', '10.99.0.12'] as const;
const endpointIds = {
  [one]: '4e0f3c9a1b2d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7',
  [two]: '5f1f3c9a1b2d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7',
} as const;
const oldNetwork = '8c1f2d3e4a5b6c7d8e9f00112233445566778899aabbccddeeff001122334455';

const endpointKey = (address: typeof one | typeof two) =>
  `${v3}/workloadendpoints/libnetwork/old--host-libnetwork-libnetwork-${endpointIds[address]}`;
const poolKey = `${v3}/ippools/net1`;
const profileKey = `${v3}/profiles/net1`;
const blockKey = '/calico/ipam/v2/assignment/ipv4/block/10.99.0.0-26';

function endpointOf(address: typeof one | typeof two, uid: string): string {
  const id = endpointIds[address];
  return `{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"old--host-libnetwork-libnetwork-${id}","namespace":"libnetwork","uid":"${uid}","creationTimestamp":"2019-03-30T10:00:00Z","labels":{"projectcalico.org/namespace":"libnetwork","projectcalico.org/orchestrator":"libnetwork","role":"web"}},"spec":{"orchestrator":"libnetwork","workload":"libnetwork","node":"${node}","containerID":"","pod":"","endpoint":"${id}","ipNetworks":["${address}/32"],"ipNATs":null,"ipv4Gateway":"","ipv6Gateway":"","profiles":["net1"],"interfaceName":"cali${id.slice(0, 11)}","mac":"ee:ee:ee:ee:ee:ee","ports":null}}`;
}

/** What that plugin, and calico/node 3.1 beside it, wrote; in the order and with the nulls of their JSON. */
const left: readonly (readonly [key: string, value: string])[] = [
  [
    `${v3}/clusterinformations/default`,
    '{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"5e8d0a1c-7c0b-4a3f-9a34-3d0f1f5a9a11","creationTimestamp":"2019-03-30T09:00:00Z"},"spec":{"clusterGUID":"b3c64d1c36a54c7c9ad5b0a6d1c2e3f4","clusterType":"","calicoVersion":"v3.1.6","datastoreReady":true}}',
  ],
  [
    `${v3}/nodes/${node}`,
    `{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"${node}","uid":"11111111-7c0b-4a3f-9a34-3d0f1f5a9a11","creationTimestamp":"2019-03-30T09:00:00Z"},"spec":{"bgp":{"ipv4Address":"203.0.113.2/24"}}}`,
  ],
  [
    poolKey,
    `{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"net1","uid":"0f0c5a4e-9a0e-4a41-8a57-0c6b2d8b0b52","creationTimestamp":"2019-03-30T09:30:00Z","annotations":{"org.projectcalico.label.network.ID":"${oldNetwork}"}},"spec":{"cidr":"10.99.0.0/26","ipipMode":"Never","natOutgoing":true,"ofLaterReleases":{"kept":true}}}`,
  ],
  [
    profileKey,
    '{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"net1","uid":"22222222-9a0e-4a41-8a57-0c6b2d8b0b52","creationTimestamp":"2019-03-30T09:40:00Z"},"spec":{"ingress":[{"action":"Allow","source":{"selector":"has(net1)"},"destination":{}}],"egress":[{"action":"Allow","source":{},"destination":{}}],"ofLaterReleases":"kept"}}',
  ],
  [endpointKey(one), endpointOf(one, '33333333-9a0e-4a41-8a57-0c6b2d8b0b52')],
  [endpointKey(two), endpointOf(two, '44444444-9a0e-4a41-8a57-0c6b2d8b0b52')],
  [
    blockKey,
    JSON.stringify({
      cidr: '10.99.0.0/26',
      affinity: `host:${node}`,
      strictAffinity: false,
      allocations: Array.from({ length: 64 }, (_, ordinal) =>
        ordinal >= 10 && ordinal <= 12 ? 0 : null,
      ),
      unallocated: Array.from({ length: 64 }, (_, ordinal) => ordinal).filter(
        (ordinal) => ordinal < 10 || ordinal > 12,
      ),
      attributes: [{ handle_id: null, secondary: null }],
    }),
  ],
  [`/calico/ipam/v2/host/${node}/ipv4/block/10.99.0.0-26`, ''],
  ['/calico/ipam/v2/config', '{"strict_affinity":false,"auto_allocate_blocks":true}'],
];

describe('a datastore that the plugin of 2019 left', { timeout: 600_000 }, () => {
  let host: Host;
  let etcd: Etcd;
  const stored = (key: string) => etcd.etcdctl('get', '--print-value-only', key).trimEnd();
  const environment = () => ({
    ETCD_ENDPOINTS: etcd.endpoint,
    CALICO_LIBNETWORK_HOSTNAME: node,
    CALICO_LIBNETWORK_LABEL_POLL_TIMEOUT: '5s',
  });
  const calico = (...argv: readonly string[]) =>
    host.exec(['calico-cnm', ...argv], { env: environment() });
  const pings = async (from: string, to: string) => {
    const { status } = await host.exec(['ip', 'netns', 'exec', from, 'ping', '-c1', '-W1', to]);
    return status === 0;
  };
  const drops = async () => {
    const { stdout } = await calico('status');
    const [, packets] = /inbound: no matching rule +(\d+)/.exec(stdout) ?? [];
    return Number(packets ?? 0);
  };

  before(async () => {
    host = await startHost({ engine: '20.10', uplink: true });
    // As dockerd does, which does not run here.
    await host.run(['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1']);
    etcd = await startEtcd({ enter: host.machine.enterNetwork, port: 2379 });
    for (const [key, value] of left) etcd.etcdctl('put', '--', key, value);
    for (const address of [one, two] as const) await leaveContainer(host, address);
    await host.startCalico(environment());
  });
  after(async () => {
    await host?.[Symbol.asyncDispose]();
    await etcd?.[Symbol.asyncDispose]();
  });

  test('what is there stays byte for byte, and the endpoints are served with their Profiles', async () => {
    const { stdout } = await calico('status');
    for (const address of [one, two] as const) {
      const id = endpointIds[address];
      assert.match(
        stdout,
        new RegExp(
          `endpoint ${id.slice(0, 12)} .*${address}/32 +net1 +cali${id.slice(0, 11)} +ready`,
        ),
      );
    }
    for (const [key, value] of left) assert.equal(stored(key), value);
    assert.match(host.calicoLog(), /LABEL_POLL_TIMEOUT \(from the environment\) has no effect/);
  });

  test('a Profile without a tag admits nobody, is pointed out, and is mended by one command', async () => {
    const { stdout } = await calico('profile', 'net1', 'show');
    assert.match(
      stdout,
      /tags: none\n.*\n +1 {2}allow from tag net1 {3}\(no Profile has tag net1\)/,
    );
    const dropped = await drops();
    assert.equal(await pings('one', two), false);
    assert.ok((await drops()) > dropped);
    assert.equal((await calico('profile', 'net1', 'tag', 'add', 'net1')).status, 0);
    assert.equal(await pings('one', two), true);
    const profile: unknown = JSON.parse(stored(profileKey));
    const was: unknown = JSON.parse(new Map(left).get(profileKey) ?? '');
    assert.deepEqual(withTag(was), profile);
  });

  test('no address that was given out is given again', async () => {
    const pool = await call(host, 'IpamDriver.RequestPool', { Pool: '10.99.0.0/26' });
    const given: string[] = [];
    for (;;) {
      const said = await call(host, 'IpamDriver.RequestAddress', { PoolID: pool.PoolID });
      if (said.Err !== undefined) {
        assert.match(said.Err, /no free address/);
        break;
      }
      given.push((said.Address ?? '').replace('/32', ''));
    }
    assert.equal(new Set(given).size, 61);
    for (const address of [one, two, leaked]) assert.ok(!given.includes(address), address);
    for (const address of given) {
      await call(host, 'IpamDriver.ReleaseAddress', { PoolID: pool.PoolID, Address: address });
    }
    await call(host, 'IpamDriver.ReleasePool', { PoolID: pool.PoolID });
    assert.equal(stored(poolKey), new Map(left).get(poolKey));
  });

  test('ipam check says in words what leaked, and it can be released', async () => {
    const { status, stdout } = await calico('ipam', 'check');
    assert.equal(status, 1);
    assert.match(stdout, new RegExp(`^${leaked} is allocated \\(no handle`));
    assert.match(stdout, /\n1 problem found\n$/);
    for (const address of [one, two]) {
      const refused = await calico('ipam', 'release', address);
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, new RegExp(`${address} is in use by `));
    }
    assert.equal((await calico('ipam', 'release', leaked)).status, 0);
    assert.deepEqual(await calico('ipam', 'check'), {
      status: 0,
      stdout: 'no problems found\n',
      stderr: '',
    });
  });

  test('a container that goes takes its address with it, and leaves the others alone', async () => {
    const gone = { NetworkID: oldNetwork, EndpointID: endpointIds[one] };
    // What Docker sends at `docker rm`, and at `docker network rm`, with what that plugin told it.
    for (const [method, body] of [
      ['NetworkDriver.Leave', gone],
      ['NetworkDriver.DeleteEndpoint', gone],
      ['IpamDriver.ReleaseAddress', { PoolID: 'net1', Address: one }],
      ['IpamDriver.ReleaseAddress', { PoolID: 'CalicoPoolIPv4', Address: two }],
      ['NetworkDriver.DeleteNetwork', { NetworkID: oldNetwork }],
      ['IpamDriver.ReleasePool', { PoolID: 'CalicoPoolIPv4' }],
    ] as const) {
      assert.deepEqual(await call(host, method, body), {}, method);
    }
    assert.equal(stored(endpointKey(one)), '');
    assert.equal(stored(endpointKey(two)), new Map(left).get(endpointKey(two)));
    const free = (await calico('ipam', 'show', '--ip', one)).stdout;
    assert.equal(free, `${one} is free, in IP pool net1\n`);
    assert.match((await calico('ipam', 'show', '--ip', two)).stdout, /is in use by/);
    assert.equal((await calico('ipam', 'check')).status, 0);
  });
});

/** A running container as that plugin left it: the one next hop of all, answered for by proxy ARP. */
async function leaveContainer(host: Host, address: typeof one | typeof two): Promise<void> {
  const name = address === one ? 'one' : 'two';
  const link = `cali${endpointIds[address].slice(0, 11)}`;
  const script = `
    ip netns add ${name}
    ip link add ${link} type veth peer name cali0 netns ${name}
    ip link set ${link} up
    echo 1 > /proc/sys/net/ipv4/conf/${link}/proxy_arp
    ip -n ${name} link set cali0 up
    ip -n ${name} addr add ${address}/32 dev cali0
    ip -n ${name} route add 169.254.1.1 dev cali0
    ip -n ${name} route add default via 169.254.1.1 dev cali0`;
  await host.run(['sh', '-ec', script]);
}

const answer = z.object({
  Err: z.string().optional(),
  PoolID: z.string().optional(),
  Address: z.string().optional(),
});

/** One call of Docker's. */
function call(host: Host, method: string, body: object): Promise<z.infer<typeof answer>> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        socketPath: host.path('/run/docker/plugins/calico.sock'),
        path: `/${method}`,
        method: 'POST',
        agent: false,
      },
      (response) => {
        text(response).then((said) => resolve(answer.parse(JSON.parse(said))), reject);
      },
    );
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

/** A stored Profile with the tag of its name, and nothing else changed. */
function withTag(profile: unknown): unknown {
  const { spec, ...others } = objectOf(profile);
  return { ...others, spec: { ...objectOf(spec), labelsToApply: { net1: '' } } };
}
