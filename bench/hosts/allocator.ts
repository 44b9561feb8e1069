import { createInterface } from 'node:readline';
import { nodeScope } from '../../src/cache/cache-scope.ts';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { createDockerIpam } from '../../src/ipam/docker/docker-ipam.ts';
import { LastAddresses } from '../../src/ipam/docker/last-addresses.ts';

/**
 * One of the nodes that allocate addresses at the same time (allocations.ts): prints `ready` when it is in sync, warms up
 * when it reads a line, prints `warm`, and measures when it reads the next. Prints what it allocated, as JSON.
 */

const [node = '', endpoint = '', callers = '', perCaller = ''] = process.argv.slice(2);
const signal = AbortSignal.timeout(300_000);
const stop = new AbortController();
const store = await openDatastore({ kind: 'etcd', endpoints: [endpoint] });
const mirror = new LiveMirror(store, undefined, undefined, undefined, nodeScope(node));
const running = mirror.run(stop.signal);
await mirror.reached(0n, signal);
const writer = new GroupWriter(mirror);
let nonces = 0;
const ipam = createDockerIpam({
  usedRanges: () => [],
  node,
  writer,
  now: () => new Date(),
  nonce: () => `${node}-${++nonces}`,
  stamp: (pool) => pool,
  last: new LastAddresses(),
});
const pool = await ipam.requestPool.answer(
  { AddressSpace: undefined, Pool: undefined, SubPool: undefined, Options: {}, V6: false },
  signal,
);
const PoolID = 'PoolID' in pool ? String(pool.PoolID) : '';
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
process.stdout.write('ready\n');
await lines.next();

const addresses: string[] = [];
const waits: number[] = [];
const failures: string[] = [];
// The first requests include the warm-up of the program; all nodes warm up at the same time.
await request(Math.ceil(Number(perCaller) / 2));
waits.length = 0;
const warm = addresses.length;
process.stdout.write('warm\n');
await lines.next();
const processor = process.cpuUsage();
const { transactions } = writer;
const started = Date.now();
await request(Number(perCaller));
const ended = Date.now();
const { user, system } = process.cpuUsage(processor);
const processorMs = (user + system) / 1000;
const made = { transactions: writer.transactions - transactions, warm, addresses, waits, failures };
process.stdout.write(`${JSON.stringify({ ...made, started, ended, processorMs })}\n`);
stop.abort();
await store.close();
await running;

async function request(count: number): Promise<void> {
  const caller = async () => {
    for (let n = 0; n < count; n++) {
      const began = performance.now();
      try {
        const answer = await ipam.requestAddress.answer(
          { PoolID, Address: undefined, Options: {} },
          signal,
        );
        addresses.push('Address' in answer ? String(answer.Address) : '');
      } catch (error) {
        failures.push(String(error));
      }
      waits.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({ length: Number(callers) }, caller));
}
