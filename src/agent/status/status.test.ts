import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'node:test';
import { looseSupervisor } from '../../async/supervise.fixture.ts';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { forwards } from '../../dataplane/host-settings.ts';
import { indexLocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { LiveMirror } from '../../cache/live-mirror.ts';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import { withPublishedPorts } from '../../model/published-port.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { Agent } from '../agent.ts';
import { FakeKernel } from '../fake-kernel.fixture.ts';
import { statusReport, type StatusSources } from './status.ts';

const signal = AbortSignal.timeout(600_000);
const silent = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };
const networkId = 'n'.repeat(64);

function endpoint(
  id: string,
  more: { readonly container?: string; readonly node?: string; readonly quarantine?: string } = {},
): WorkloadEndpoint {
  const { container, quarantine } = more;
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: id,
      namespace: 'libnetwork',
      annotations: {
        [endpointAnnotations.network]: networkId,
        ...(quarantine === undefined ? {} : { [endpointAnnotations.quarantine]: quarantine }),
      },
    },
    spec: {
      orchestrator: 'libnetwork',
      node: more.node ?? 'here',
      endpoint: id,
      interfaceName: `cali${id}`,
      ipNetworks: [parseNet(`10.65.0.${id.charCodeAt(0) - 96}/32`)],
      profiles: ['web'],
      ...(container === undefined ? {} : { workload: container, containerID: 'c'.repeat(64) }),
    },
  };
}

/** Host `here` with one network, its Profile and a pool, on a kernel in memory. */
async function withStatus(
  use: (lab: {
    readonly kernel: FakeKernel;
    readonly mirror: LiveMirror;
    /** Undelivered datagrams of each published port. */
    readonly undelivered: Map<number, number>;
    readonly put: (...endpoints: readonly WorkloadEndpoint[]) => Promise<void>;
    readonly status: (more?: Partial<StatusSources>) => ReturnType<typeof statusReport>;
    /** Makes the agent read the kernel again. */
    readonly read: () => void;
  }) => Promise<void>,
): Promise<void> {
  await using store = await openNodeStore('here');
  const { mirror, writer } = store;
  const kernel = new FakeKernel();
  const undelivered = new Map<number, number>();
  const local = indexLocalEndpoints(mirror, 'here');
  const agent = new Agent({
    node: 'here',
    families: [4, 6],
    drivers: kernel,
    mirror,
    supervisor: looseSupervisor(),
    hostPorts: {
      reserve: async () => 0,
      release: () => undefined,
      undeliveredAt: ({ port }) => undelivered.get(port) ?? 0,
    },
    ipv6Forwarding: {
      isOwn: false,
      switchOn: () => undefined,
      keepAdvertisements: () => undefined,
    },
    statics: { endpointToHostAction: 'Return' },
    resolvesNames: true,
    endsForbiddenFlows: true,
    log: silent,
  });
  const stop = new AbortController();
  agent.start(stop.signal);
  try {
    await writer.write((draft) => {
      draft.put('Profile', 'web', {
        kind: 'Profile',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'web' },
        spec: { labelsToApply: { web: '' }, ingress: [{ action: 'Deny' }], egress: [] },
      });
      draft.put('IPPool', 'pool', {
        kind: 'IPPool',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'pool' },
        spec: { cidr: parseCidr('10.65.0.0/24'), blockSize: 26 },
      });
      for (const [node, id] of [
        ['here', networkId],
        ['there', networkId],
        ['here', 'm'.repeat(64)],
      ] as const) {
        draft.put('DockerNetwork', `${node}/${id}`, {
          id,
          node,
          ...(id === networkId ? { name: 'web' } : {}),
          ipam: 'calico',
          internal: false,
          ipv4: true,
          ipv6: false,
          subnets: [{ family: 4, cidr: parseCidr('10.65.0.0/24') }],
          options: {},
          nextHop4: parseAddress(id === networkId ? '169.254.7.7' : '169.254.7.8'),
        });
      }
    }, signal);
    const read = () => agent.onKernelEvents([{ kind: 'overrun' }]);
    const settled = async () => {
      const { rounds } = kernel;
      read();
      for (let tries = 0; kernel.rounds < rounds + 1; tries++) {
        assert.ok(tries < 3000);
        await pause(1);
      }
      await pause(1);
    };
    await use({
      kernel,
      mirror,
      undelivered,
      read,
      put: async (...endpoints) => {
        await writer.write((draft) => {
          for (const one of endpoints) {
            draft.put('WorkloadEndpoint', `libnetwork/${one.metadata.name}`, one);
          }
        }, signal);
        await settled();
      },
      status: (more = {}) =>
        statusReport({
          version: '1.2.3',
          node: 'here',
          startedAt: new Date('2026-08-22T10:00:00Z'),
          mirror,
          agent,
          local,
          firewall: { backend: 'nft', why: 'used by Docker' },
          families: [4, 6],
          sockets: ['/run/docker/plugins/calico.sock'],
          hostProblems: [],
          connected: () => [],
          dockerPools: () => [],
          moreChecks: [],
          ...more,
        }),
    });
  } finally {
    stop.abort();
  }
}

test("status shows this host's networks and endpoints, and the state of each endpoint", () =>
  withStatus(async ({ kernel, put, status }) => {
    kernel.refuses.add('route 10.65.0.2/32');
    await put(
      endpoint('a', { container: 'app' }),
      endpoint('b'),
      endpoint('c', { quarantine: 'Docker did not answer' }),
      endpoint('d', { node: 'there' }),
    );
    const { networks, endpoints, pools, ...base } = status();
    assert.deepEqual(
      networks.map(({ name, id, subnets, nextHops, profiles, endpoints: count }) => [
        name,
        id,
        subnets,
        nextHops,
        profiles,
        count,
      ]),
      [
        ['(not known yet)', 'm'.repeat(12), ['10.65.0.0/24'], ['169.254.7.8'], [], 0],
        ['web', 'n'.repeat(12), ['10.65.0.0/24'], ['169.254.7.7'], ['web'], 3],
      ],
    );
    assert.deepEqual(
      endpoints.map((one) => [one.container, one.network, one.interface, one.state]),
      [
        ['app', 'web', 'calia', 'ready'],
        ['endpoint b', 'web', 'calib', 'no route'],
        ['endpoint c', 'web', 'calic', 'quarantine: Docker did not answer'],
      ],
    );
    assert.deepEqual(endpoints[0]?.addresses, ['10.65.0.1/32']);
    assert.deepEqual(endpoints[0]?.profiles, ['web']);
    assert.equal(endpoints[0]?.namespace, 'libnetwork');
    assert.deepEqual(pools, [{ name: 'pool', cidr: '10.65.0.0/24', free: '256', total: '256' }]);
    assert.deepEqual(
      [base.version, base.node, base.startedAt, base.lastError],
      ['1.2.3', 'here', '2026-08-22T10:00:00.000Z', undefined],
    );
  }));

test('status shows changes rejected by the kernel with their containers', () =>
  withStatus(async ({ kernel, put, status, read }) => {
    await put(endpoint('a', { container: 'app' }));
    const check = (name: string, more: Partial<StatusSources> = {}) =>
      status(more).checks.filter((one) => one.name === name);
    assert.match(check('dataplane')[0]?.detail ?? '', /^in sync since 20/);
    assert.deepEqual(
      check('dataplane').map(({ ok }) => ok),
      [true],
    );
    assert.deepEqual(check('plugin sockets')[0], {
      name: 'plugin sockets',
      ok: true,
      detail: '/run/docker/plugins/calico.sock',
    });
    assert.equal(check('plugin sockets', { sockets: [] })[0]?.ok, false);
    assert.equal(check('firewall')[0]?.detail, 'iptables-nft, used by Docker; IPv4 and IPv6');
    assert.deepEqual(check('host', { hostProblems: ['no module'] })[0], {
      name: 'host',
      ok: false,
      detail: 'no module',
    });
    const more = { name: 'more', ok: true, detail: 'said elsewhere' };
    assert.deepEqual(check('more', { moreChecks: [more] }), [more]);
    kernel.refuses.add('route 10.65.0.1/32');
    await put(endpoint('a', { container: 'app' }));
    const [all, one] = check('dataplane');
    assert.match(all?.detail ?? '', /^everything else in sync since/);
    assert.deepEqual(
      [one?.ok, one?.detail],
      [false, 'route 10.65.0.1/32 (container app on here): EINVAL'],
    );
    kernel.refuses.add('phase tables');
    read();
    for (let tries = 0; status().lastError === undefined; tries++) {
      assert.ok(tries < 3000);
      await pause(1);
    }
    const failed = status();
    assert.match(failed.lastError?.what ?? '', /tables failed/);
    const kernelCheck = failed.checks.find(({ name }) => name === 'dataplane');
    assert.deepEqual([kernelCheck?.ok, kernelCheck?.detail], [false, 'out of sync: tables failed']);
  }));

test('dropped packets are shown by container and rule; without a container only for reasons that have none', () =>
  withStatus(async ({ kernel, put, status }) => {
    await put(endpoint('a', { container: 'app' }), endpoint('b'));
    const sets = [...kernel.ipset.sets.keys()];
    const perRule = sets.find((name) => /^cali40d:[\w-]{20}$/.test(name)) ?? '';
    const counts: Readonly<Record<string, readonly [string, bigint][]>> = {
      [perRule]: [
        ['10.65.0.1,calia', 3n],
        ['10.65.0.9,calix', 4n],
      ],
      'cali40d:source': [
        ['10.9.9.9,calia', 2n],
        ['10.9.9.8,calia', 5n],
        ['10.9.9.9,calix', 7n],
        ['10.9.9.9,calib', 0n],
      ],
      'cali60d:rest': [['::/1', 1n]],
    };
    kernel.ipset.members = (name: string) =>
      (counts[name] ?? []).map(([member, packets]) => ({ member, packets, bytes: packets * 10n }));
    const rest = 'other addresses';
    const source = 'outbound: spoofed source';
    const drops = status().drops.map(
      ({ container, rule, packets, bytes }) => `${container}: ${rule}: ${packets} ${bytes}`,
    );
    assert.deepEqual(
      drops.filter((one) => !one.includes('Profile') && !one.includes('no rule')),
      [`app: ${source}: 7 70`, `-: ${source}: 7 70`, `-: ${rest}: 1 10`],
    );
    assert.ok(drops.includes('app: inbound: Profile web, rule 1: 3 30'), drops.join('\n'));
    assert.equal(drops.length, 4);
  }));

test('before the datastore was read, status lists nothing and says so', () =>
  withStatus(async ({ put, status, mirror }) => {
    await put(endpoint('a', { container: 'app' }));
    const unread = new LiveMirror(mirror.datastore);
    const local = indexLocalEndpoints(unread, 'here');
    const { networks, endpoints, pools, drops, checks } = status({ mirror: unread, local });
    assert.deepEqual([networks, endpoints, pools, drops], [[], [], [], []]);
    const datastore = checks.find(({ name }) => name === 'datastore');
    assert.match(datastore?.detail ?? '', /not read yet$/);
  }));

test('an endpoint whose policy is not programmed, or whose network is unknown, is shown so', () =>
  withStatus(async ({ put, status }) => {
    const { profiles: _, ...spec } = endpoint('b').spec;
    const annotations = { [endpointAnnotations.network]: 'x'.repeat(64) };
    await put(endpoint('a'), { ...endpoint('b'), metadata: { name: 'b', annotations }, spec });
    const shown = () =>
      status().endpoints.map(({ network, profiles, state }) => [network, profiles, state]);
    assert.deepEqual(shown(), [
      ['web', ['web'], 'ready'],
      ['', [], 'ready'],
    ]);
  }));

test('UDP datagrams that a published port has not delivered count as dropped', () =>
  withStatus(async ({ put, status, undelivered }) => {
    await put(
      withPublishedPorts(endpoint('a', { container: 'app' }), [
        { protocol: 'UDP', hostIp: parseAddress('192.0.2.1'), hostPort: 53, port: 53 },
      ]),
    );
    assert.deepEqual(status().drops, []);
    undelivered.set(53, 4);
    assert.deepEqual(
      status().drops.map(({ container, rule, packets }) => [container, rule, packets]),
      [['app', 'inbound: not delivered by published port 192.0.2.1:53/udp (broadcast)', 4]],
    );
  }));

test('address families of containers that the host does not forward are reported, and no others', () =>
  withStatus(async ({ put, status }) => {
    const reported = () =>
      status().checks.flatMap(({ name, ok }) => (name.endsWith('forwarding') ? [[name, ok]] : []));
    assert.deepEqual(reported(), [], 'no container');
    await put(endpoint('a'));
    assert.deepEqual(reported(), forwards(4) ? [] : [['IPv4 forwarding', false]]);
  }));
