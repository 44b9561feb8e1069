import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { startEtcd } from '../../test/lab/etcd.ts';
import { manyNodesPool, nodeName, nodeNumber } from '../../test/lab/cluster/many-nodes.ts';
import { percentile, table } from '../measure.ts';

/** Measures allocations by several nodes, each a process with several callers, on one etcd. */

const nodes = Number(process.argv[2] ?? 16);
const callers = Number(process.argv[3] ?? 4);
const perCaller = Number(process.argv[4] ?? 150);
const signal = AbortSignal.timeout(300_000);

await using etcd = await startEtcd();
const store = await openDatastore({ kind: 'etcd', endpoints: [etcd.endpoint] });
const mirror = new LiveMirror(store);
const stop = new AbortController();
const running = mirror.run(stop.signal);
await mirror.reached(0n, signal);
const writer = new GroupWriter(mirror);
await writer.write((draft) => {
  draft.put('IpamConfig', 'config', { auto_allocate_blocks: true, maxBlocksPerHost: 4000 });
  draft.put('IPPool', 'many', manyNodesPool('direct'));
  for (let n = 1; n <= nodes; n++) draft.put('Node', nodeName(n), nodeNumber(n));
}, signal);

const report = z.object({
  transactions: z.number(),
  /** How many of the addresses were allocated before the measurement. */
  warm: z.number(),
  addresses: z.array(z.string()),
  waits: z.array(z.number()),
  failures: z.array(z.string()),
  started: z.number(),
  ended: z.number(),
  processorMs: z.number(),
});

const allocators = await Promise.all(
  Array.from({ length: nodes }, (_, n) => startAllocator(nodeName(n + 1))),
);
await Promise.all(allocators.map((one) => one.warmUp()));
const before = await etcdCounts();
const reports = await Promise.all(allocators.map((one) => one.measure()));
const after = await etcdCounts();
stop.abort();
await store.close();
await running;

const addresses = reports.flatMap((one) => one.addresses);
const measured = addresses.length - sum(reports.map(({ warm }) => warm));
const failures = reports.flatMap((one) => one.failures);
const waits = reports.flatMap((one) => one.waits);
const seconds =
  (Math.max(...reports.map(({ ended }) => ended)) -
    Math.min(...reports.map(({ started }) => started))) /
  1000;
const transactions = sum(reports.map((one) => one.transactions));
process.stdout.write(
  table(
    [`${nodes} nodes × ${callers} callers, ${measured} addresses, one etcd`, ''],
    [
      ['addresses per second', (measured / seconds).toFixed(0)],
      [
        'failed, allocated twice',
        `${failures.length}, ${addresses.length - new Set(addresses).size}`,
      ],
      ['transactions for an address', (transactions / measured).toFixed(3)],
      ['transactions per second', (transactions / seconds).toFixed(0)],
      ['p50, p99 (ms)', [0.5, 0.99].map((share) => percentile(waits, share).toFixed(1)).join(', ')],
      [
        'CPU time of the nodes for an address (ms)',
        (sum(reports.map((one) => one.processorMs)) / measured).toFixed(2),
      ],
      ['CPU time of etcd for an address (ms)', perAddress('processor', 1000).toFixed(2)],
      ['bytes that etcd sends for an address', perAddress('sent').toFixed(0)],
      ['keys written for an address', perAddress('puts').toFixed(2)],
      ['changes that etcd reports for an address', perAddress('events').toFixed(2)],
    ],
  ),
);
for (const failure of new Set(failures)) process.stderr.write(`${failure}\n`);

function perAddress(count: keyof typeof after, factor = 1): number {
  return ((after[count] - before[count]) * factor) / measured;
}

/** What etcd counts: its CPU time in seconds, the bytes it has sent, and the transactions it has answered. */
async function etcdCounts() {
  const metrics = await (await fetch(`${etcd.endpoint}/metrics`)).text();
  const value = (pattern: RegExp) => Number(pattern.exec(metrics)?.[1]);
  return {
    processor: value(/^process_cpu_seconds_total (\S+)/m),
    sent: value(/^etcd_network_client_grpc_sent_bytes_total (\S+)/m),

    puts: value(/^etcd_mvcc_put_total (\S+)/m),
    events: value(/^etcd_debugging_mvcc_events_total (\S+)/m),
  };
}

/** Starts a node; resolves when it is ready. */
async function startAllocator(name: string) {
  const argv = [`${import.meta.dirname}/allocator.ts`, name, etcd.endpoint, callers, perCaller];
  const child = spawn(process.execPath, [...process.execArgv, ...argv.map(String)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const expect = async (said: string) => {
    const { value } = await lines.next();
    if (value !== said) throw new Error(`node ${name} is not ${said}`);
  };
  await expect('ready');
  return {
    warmUp: async () => {
      child.stdin.write('\n');
      await expect('warm');
    },
    measure: async () => {
      child.stdin.end('\n');
      const { value } = await lines.next();
      const made = report.parse(JSON.parse(String(value)));
      if (child.exitCode === null) await once(child, 'exit');
      return made;
    },
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((all, one) => all + one, 0);
}
