import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLinks } from '../host-links.ts';
import type { Datastore, Write } from '../../src/datastore/datastore.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { entryTypeOf } from '../../src/model/kinds/index.ts';
import { startEtcd } from '../../test/lab/etcd.ts';
import { enterNewNamespace } from '../../test/lab/namespace.ts';
import { getText } from '../../test/lab/plugin-client.ts';
import { percentile, table } from '../measure.ts';
import { inMs, inSeconds, MeasuredDaemon } from '../measured-daemon.ts';
import {
  active,
  bringing,
  endpoint,
  ends,
  everyone,
  localAddress,
  node,
  numberedPolicy,
  putEndpoint,
  putPolicy,
  senders,
  write,
  writes,
} from './cluster.ts';

/**
 * Measures one change of policy at the daemon of a host with many endpoints (veths, no Docker) in a large cluster: from the
 * commit in the datastore, an etcd, to the first datagram that the change allows. Then the restart, memory, and blocks of
 * the event loop while all policies change. `change.ts [nft|legacy] [ROUNDS] [LOCAL] [POLICIES] [REMOTE]`.
 */

const backend = process.argv[2] === 'legacy' ? 'legacy' : 'nft';
const [rounds = 30, local = 1000, policies = 10_000, remote = 100_000] = process.argv
  .slice(3)
  .map(Number);
const signal = AbortSignal.timeout(1_800_000);
const nameOf = (end: string) => `calico-${end}-${process.pid}`;

const folder = mkdtempSync(join(tmpdir(), 'calico-policy-'));
const namespace = enterNewNamespace();
const children: ChildProcess[] = [];
const ip = (...argv: readonly string[]) => execFileSync('ip', argv, { encoding: 'utf8' });
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  for (const end of Object.keys(ends)) execFileSync('ip', ['netns', 'del', nameOf(end)]);
  namespace[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});
for (const end of Object.keys(ends)) ip('netns', 'add', nameOf(end));
const checkout = join(import.meta.dirname, '../..');

await using etcd = await startEtcd();
const store = await openDatastore({ kind: 'etcd', endpoints: [etcd.endpoint] });
const put = async (...writes: readonly Write[]) => {
  await store.commit({ compares: [], writes: [...writes] }, signal);
};
await fill(store, writes({ local, policies, remote }));

createLinks(local);
for (const [end, n] of Object.entries(ends)) {
  const name = nameOf(end);
  const gateway = '169.254.1.1';
  ip('link', 'set', `peer${n}`, 'netns', name);
  ip('-n', name, 'link', 'set', `peer${n}`, 'up');
  ip('-n', name, 'address', 'add', `${localAddress(n)}/32`, 'dev', `peer${n}`);
  ip('-n', name, 'route', 'add', gateway, 'dev', `peer${n}`);
  ip('-n', name, 'route', 'add', 'default', 'via', gateway);
  ip('-n', name, 'neighbour', 'add', gateway, 'lladdr', 'ee:ee:ee:ee:ee:ee', 'dev', `peer${n}`);
}
execFileSync('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);

const daemon = new MeasuredDaemon({
  folder,
  node,
  settings: {
    ETCD_ENDPOINTS: etcd.endpoint,
    CALICO_IPTABLES_BACKEND: backend,
    NO_DEFAULT_POOLS: 'true',
  },
  watchesLoop: true,
  signal,
});
daemon.start();
const cold = await daemon.untilInSync(200);
const arrivals: bigint[] = [];
const receiving = startEnd('receiver', 'receive');
if (receiving.stdout !== null) await once(receiving.stdout, 'data');
startEnd('sender', 'send', localAddress(ends.receiver));
// The kernel brings up a thousand new links one after another.
await sleep(15_000);

interface Change {
  readonly name: string;
  /** The round is part of what changes. */
  readonly allow: (round: number) => Promise<void>;
  readonly deny: () => Promise<void>;
}
const receiver = `libnetwork/${node}-${ends.receiver}`;
/** The last policies, none of which selects an endpoint. */
const unused = policies - 2 * (rounds + 2);
const receiverWith = (label: string) => put(putEndpoint(endpoint(ends.receiver, { [label]: '' })));
const remove = () => put({ key: entryTypeOf.WorkloadEndpoint.key(receiver), value: undefined });
const changes: readonly Change[] = [
  {
    name: 'rule of the policy of all endpoints',
    allow: () => put(putPolicy(everyone(true))),
    deny: () => put(putPolicy(everyone(false))),
  },
  {
    name: 'member of a set',
    allow: () => put(write('GlobalNetworkSet', 'senders', senders(true))),
    deny: () => put(write('GlobalNetworkSet', 'senders', senders(false))),
  },
  {
    name: 'label that brings a policy',
    allow: (round) => receiverWith(bringing(unused + round)),
    deny: () => put(putEndpoint(endpoint(ends.receiver))),
  },
  {
    name: 'new endpoint that brings a policy',
    allow: (round) => receiverWith(bringing(unused + rounds + 1 + round)),
    deny: remove,
  },
  {
    name: 'new endpoint, its policies in use',
    allow: () => receiverWith(bringing(active)),
    deny: remove,
  },
];
// It has the policies of the last change.
await put(putEndpoint(endpoint(3, { app: `app-${ends.receiver}`, [bringing(active)]: '' })));
const rows: string[][] = [];
for (const { name, allow, deny } of changes) {
  await daemon.longestBlock();
  const times: number[] = [];
  const commits: number[] = [];
  let early = 0;
  let forks = 0;
  let transactions = 0;
  for (let n = 0; n <= rounds; n++) {
    await deny();
    await sleep(1200);
    execFileSync('conntrack', ['-F'], { stdio: 'ignore' });
    await sleep(100);
    arrivals.length = 0;
    await sleep(50);
    early += arrivals.length;
    const before = await counters();
    const started = process.hrtime.bigint();
    await allow(n);
    const committed = Number(process.hrtime.bigint() - started) / 1e6;
    while (arrivals[0] === undefined) {
      signal.throwIfAborted();
      await sleep(1);
    }
    const now = await counters();
    // The first is the warm-up.
    if (n === 0) continue;
    times.push(Number(arrivals[0] - started) / 1e6);
    commits.push(committed);
    forks += now.forks - before.forks;
    transactions += now.transactions - before.transactions;
  }
  await deny();
  const blocked = await daemon.longestBlock();
  rows.push([
    name,
    percentile(times, 0.5).toFixed(1),
    percentile(times, 0.99).toFixed(1),
    `${percentile(commits, 0.5).toFixed(1)}, ${percentile(commits, 0.99).toFixed(1)}`,
    (forks / rounds).toFixed(1),
    (transactions / rounds).toFixed(1),
    String(early),
    inMs(blocked),
  ]);
}
const chains = [countChains('-t', 'filter'), countChains()];
const memory = residentMb();
await daemon.longestBlock();
await fill(
  store,
  (function* changed(): Generator<Write, undefined> {
    for (let n = 0; n < policies - 1; n++) yield putPolicy(numberedPolicy(n, 1));
    return undefined;
  })(),
);
await sleep(5000);
const block = await daemon.longestBlock();

await daemon.end('SIGKILL');
daemon.start();
const restart = await daemon.untilInSync(200);
await sleep(20_000);
const afterRestart = residentMb();

process.stdout.write(
  table(
    [
      `${local} endpoints, ${policies} policies (${active} in use), ${remote} endpoints elsewhere; iptables-${backend}`,
      'p50 (ms)',
      'p99 (ms)',
      'of it the commit (p50, p99)',
      'processes started',
      'table transactions',
      'datagrams before the change',
      'longest block meanwhile (ms, CPU ms)',
    ],
    rows,
  ),
);
process.stdout.write(
  `\n${table(
    ['', ''],
    [
      ['chains in the filter table, in all (IPv4)', chains.join(', ')],
      ['cold start: start to in sync (s), CPU time (s)', inSeconds(cold)],
      ['restart: start to in sync (s), CPU time (s)', inSeconds(restart)],
      ['resident memory after changes, after the restart (MB)', `${memory}, ${afterRestart}`],
      [
        `longest block of the event loop while ${policies} policies change (ms, CPU ms)`,
        inMs(block),
      ],
    ],
  )}`,
);
// The streams of datagrams keep this process alive; nothing else would delete the data of etcd.
await daemon.end('SIGKILL');
await store.close();
await etcd[Symbol.asyncDispose]();
process.exit(0);

async function fill(into: Datastore, queue: Iterator<Write, undefined>): Promise<void> {
  const worker = async () => {
    for (;;) {
      const some: Write[] = [];
      for (let n = 0; n < 120; n++) {
        const { value, done } = queue.next();
        if (done !== true) some.push(value);
      }
      if (some.length === 0) return;
      await into.commit({ compares: [], writes: some }, signal);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function startEnd(end: keyof typeof ends, ...argv: readonly string[]): ChildProcess {
  const command = ['netns', 'exec', nameOf(end), process.execPath, 'bench/datagrams.ts', ...argv];
  const child = spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'], cwd: checkout });
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = chunk.toString().split('\n');
    arrivals.push(...lines.filter((line) => /^\d+$/.test(line)).map(BigInt));
  });
  children.push(child);
  return child;
}

async function counters(): Promise<{ readonly forks: number; readonly transactions: number }> {
  const text = await getText(daemon.control, '/metrics');
  const of = (name: string) =>
    Number(new RegExp(`^calico_${name}_total (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
  return { forks: of('forks'), transactions: of('table_transactions') };
}

function countChains(...argv: readonly string[]): number {
  const saved = execFileSync(`iptables-${backend}-save`, argv, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  return saved.split('\n:cali').length - 1;
}

function residentMb(): string {
  return (daemon.memoryKb() / 1000).toFixed(0);
}
