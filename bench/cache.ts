import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Datastore, Write } from '../src/datastore/datastore.ts';
import { openDatastore } from '../src/datastore/open-datastore.ts';
import { networkProfile } from '../src/driver/networks/network-profile.ts';
import { parseRuleExpression } from '../src/cli/profiles/rule-expression.ts';
import { startEtcd } from '../test/lab/etcd.ts';
import { manyNodes, nodeNumber } from '../test/lab/cluster/many-nodes.ts';
import { enterNewNamespace } from '../test/lab/namespace.ts';
import { callPlugin } from '../test/lab/plugin-client.ts';
import { percentile, table } from './measure.ts';
import { inMs, inSeconds, MeasuredDaemon, type Duration } from './measured-daemon.ts';

/**
 * Measures the daemon of one host whose datastore, a real etcd, has the endpoints of many other hosts: memory, blocks of
 * its event loop, time to in sync, response times to Docker while other hosts write, and the time of a command. With a
 * number of hosts as third argument, these are Nodes reached by VXLAN, and have routes.
 */

const remote = Number(process.argv[2] ?? 100_000);
const calls = Number(process.argv[3] ?? 300);
const hosts = process.argv[4] === undefined ? undefined : Number(process.argv[4]);
const perHost = hosts === undefined ? 250 : Math.ceil(remote / hosts);
const perBlock = 64;
/** Addresses of a host: whole blocks. */
const addressesPerHost = Math.ceil(perHost / perBlock) * perBlock;
const node = 'here';
const v3 = '/calico/resources/v3/projectcalico.org';
const ipamKeys = '/calico/ipam/v2';
const signal = AbortSignal.timeout(1_800_000);

const folder = mkdtempSync(join(tmpdir(), 'calico-cache-'));
const namespace = enterNewNamespace();
for (const command of [
  'link add eth0 type veth peer name wire',
  'link set wire up',
  'link set eth0 up',
  `addr add ${manyNodes.uplink} dev eth0`,
]) {
  execFileSync('ip', command.split(' '));
}
process.once('exit', () => {
  namespace[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});
await using etcd = await startEtcd();
const store = await openDatastore({ kind: 'etcd', endpoints: [etcd.endpoint] });
await fill(store);

const daemon = new MeasuredDaemon({
  folder,
  node,
  settings: { ETCD_ENDPOINTS: etcd.endpoint, NO_DEFAULT_POOLS: 'true' },
  watchesLoop: true,
  signal,
});
daemon.start();
let loading: Duration | undefined;
const inSync = await daemon.untilInSync(300, async () => {
  loading ??= await daemon.longestBlock();
});
// The first snapshot has been saved, and periodic work of every 30 s has run.
await sleep(40_000);
const starting = await daemon.longestBlock();
const resident = daemon.memoryKb();

// Docker requests and releases addresses while endpoints of other hosts change.
const changing = new AbortController();
const churn = keepChanging(changing.signal);
// If a call fails, its error is reported, not that of these changes when etcd ends.
churn.catch(() => undefined);
const pool = await call('IpamDriver.RequestPool', {
  AddressSpace: 'calico',
  Pool: '',
  SubPool: '',
});
const waits: number[] = [];
for (let n = 0; n < calls; n++) {
  const asked = performance.now();
  const { Address } = await call('IpamDriver.RequestAddress', {
    PoolID: pool['PoolID'],
    Address: '',
  });
  waits.push(performance.now() - asked);
  const back = performance.now();
  const Bare = String(Address).split('/')[0];
  await call('IpamDriver.ReleaseAddress', { PoolID: pool['PoolID'], Address: Bare });
  waits.push(performance.now() - back);
}
changing.abort();
const changes = await churn;
const running = await daemon.longestBlock();

const command = (...argv: readonly string[]) => {
  const since = performance.now();
  daemon.command(argv);
  return performance.now() - since;
};
const commands = [0, 1, 2].map(() => {
  try {
    return command('get', 'ippool');
  } catch {
    return Number.POSITIVE_INFINITY;
  }
});

process.stdout.write(
  table(
    [`one host, ${remote} endpoints on ${hosts ?? 'other'} hosts, etcd`, ''],
    [
      ['start to in sync (s), CPU time of the daemon', inSeconds(inSync)],
      [
        'resident memory (MB), maximum',
        [resident, daemon.memoryKb('VmHWM')].map((kb) => (kb / 1024).toFixed(0)).join(', '),
      ],
      ['longest block while the program is loaded (ms), of it CPU time', inMs(loading ?? starting)],
      ['longest block from then to in sync and 40 s more (ms), of it CPU time', inMs(starting)],
      [
        `longest block while ${changes} endpoints on other hosts change (ms), of it CPU time`,
        inMs(running),
      ],
      [
        'address allocation or release meanwhile: p50, p99 (ms)',
        `${percentile(waits, 0.5).toFixed(1)}, ${percentile(waits, 0.99).toFixed(1)}`,
      ],
      ['`get ippool` (s), best of 3', (Math.min(...commands) / 1000).toFixed(2)],
    ],
  ),
);
await daemon.end('SIGTERM');
await store.close();

async function call(method: string, body: unknown): Promise<Readonly<Record<string, unknown>>> {
  const answer = await callPlugin(join(folder, 'calico-ipam.sock'), method, body);
  if (answer.status !== 200) throw new Error(`${method}: ${answer.text}`);
  return answer.body;
}

/** Rewrites some hundred endpoints per second, like containers that start and stop on other hosts; returns the number. */
async function keepChanging(stop: AbortSignal): Promise<number> {
  let changed = 0;
  while (!stop.aborted) {
    const writes = Array.from({ length: 20 }, (_, at) =>
      endpointWrite((changed + at) % remote, 'new'),
    );
    await store.commit({ compares: [], writes }, signal);
    changed += writes.length;
    await sleep(50);
  }
  return changed;
}

async function fill(into: Datastore): Promise<void> {
  const profile = networkProfile('web');
  const rule = parseRuleExpression(['allow', 'tcp', 'from', 'tag', 'web']);
  const spec = { ...profile.spec, ingress: [...(profile.spec.ingress ?? []), rule] };
  const kinds = [
    resource('ippools', {
      kind: 'IPPool',
      metadata: { name: 'many' },
      spec: {
        cidr: manyNodes.pool,
        blockSize: 26,
        nodeSelector: 'all()',
        vxlanMode: hosts === undefined ? 'Never' : 'Always',
      },
    }),
    resource('profiles', { ...profile, spec }),
    ...Array.from({ length: hosts ?? 0 }, (_, host) =>
      resource('nodes', { ...nodeNumber(host + 1), metadata: { name: hostOf(host * perHost) } }),
    ),
  ];
  const queue = writesOf(kinds);
  const worker = async () => {
    for (;;) {
      const writes: Write[] = [];
      for (let n = 0; n < 120; n++) {
        const { value, done } = queue.next();
        if (done !== true) writes.push(value);
      }
      if (writes.length === 0) return;
      await into.commit({ compares: [], writes }, signal);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function* writesOf(first: readonly Write[]): Generator<Write, undefined> {
  yield* first;
  for (let n = 0; n < remote; n++) {
    yield endpointWrite(n, 'old');
    const value = JSON.stringify({ block: { [blockOf(n)]: 1 }, deleted: false });
    yield { key: `${ipamKeys}/handle/${handleOf(n)}`, value };
    if ((n % perHost) % perBlock === 0) yield* blockWrites(n);
  }
  return undefined;
}

interface Named {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: unknown;
}

function resource(plural: string, value: Named): Write {
  const apiVersion = 'projectcalico.org/v3';
  return {
    key: `${v3}/${plural}/${value.metadata.name}`,
    value: JSON.stringify({ apiVersion, ...value }),
  };
}

function hostOf(n: number): string {
  return `host-${String(Math.floor(n / perHost)).padStart(4, '0')}`;
}

function addressOf(n: number): string {
  const at = (65 << 16) + Math.floor(n / perHost) * addressesPerHost + (n % perHost);
  return `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`;
}

function idOf(n: number): string {
  return n.toString(16).padStart(8, '0').repeat(8);
}

function handleOf(n: number): string {
  return `libnetwork-${idOf(n).slice(0, 12)}-${addressOf(n)}`;
}

function blockOf(n: number): string {
  return `${addressOf(n - ((n % perHost) % perBlock))}/26`;
}

/** Returns an endpoint of a Compose project in the form that the driver writes. */
function endpointWrite(n: number, state: string): Write {
  const name = `${hostOf(n).replaceAll('-', '--')}-libnetwork-libnetwork-${idOf(n)}`;
  const labels = {
    project: `project-${Math.floor(n / 10) % 1000}`,
    service: `service-${n % 10}`,
    web: '',
    state,
    'projectcalico.org/namespace': 'libnetwork',
    'projectcalico.org/orchestrator': 'libnetwork',
    container: `project-${Math.floor(n / 10)}-service-${n % 10}-1`,
  };
  const docker = 'docker.projectcalico.org';
  return {
    key: `${v3}/workloadendpoints/libnetwork/${name}`,
    value: JSON.stringify({
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: {
        name,
        namespace: 'libnetwork',
        uid: '6b0a4a5c-1d8f-4c50-9d8e-000000000000',
        creationTimestamp: '2026-01-01T00:00:00Z',
        labels,
        annotations: {
          [`${docker}/network`]: 'ab'.repeat(32),
          [`${docker}/sandbox`]: `/var/run/docker/netns/${idOf(n).slice(0, 12)}`,
          [`${docker}/labels`]: Object.keys(labels).toSorted().join(','),
        },
      },
      spec: {
        orchestrator: 'libnetwork',
        workload: labels.container,
        node: hostOf(n),
        containerID: idOf(n),
        endpoint: idOf(n),
        ipNetworks: [`${addressOf(n)}/32`],
        profiles: ['web'],
        interfaceName: `cali${idOf(n).slice(0, 11)}`,
        mac: 'ee:ee:ee:ee:ee:ee',
      },
    }),
  };
}

/** Returns a full block and its affinity to a host. */
function* blockWrites(from: number): Generator<Write> {
  const host = hostOf(from);
  const cidr = blockOf(from);
  const numbers = Array.from({ length: perBlock }, (_, at) => at);
  const held = Math.min(perBlock, remote - from, perHost - (from % perHost));
  yield {
    key: `${ipamKeys}/assignment/ipv4/block/${cidr.replace('/', '-')}`,
    value: JSON.stringify({
      cidr,
      affinity: `host:${host}`,
      allocations: numbers.map((at) => (at < held ? at : null)),
      unallocated: numbers.slice(held),
      attributes: numbers.slice(0, held).map((at) => ({
        handle_id: handleOf(from + at),
        secondary: {
          node: host,
          pool: 'abcdef012345',
          endpoint: idOf(from + at),
          network: 'ab'.repeat(32),
          networkName: 'web',
        },
      })),
      deleted: false,
      sequenceNumber: 0,
      sequenceNumberForAllocation: {},
    }),
  };
  yield {
    key: `${ipamKeys}/host/${host}/ipv4/block/${cidr.replace('/', '-')}`,
    value: JSON.stringify({ state: 'confirmed', deleted: false }),
  };
}
