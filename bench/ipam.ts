import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GroupWriter } from '../src/cache/group-writer.ts';
import { LiveMirror } from '../src/cache/live-mirror.ts';
import { openDatastore, type DatastoreOptions } from '../src/datastore/open-datastore.ts';
import { parseCidr } from '../src/ip/cidr.ts';
import { createDockerIpam } from '../src/ipam/docker/docker-ipam.ts';
import { LastAddresses } from '../src/ipam/docker/last-addresses.ts';
import { DatabaseSync } from 'node:sqlite';
import { startEtcd } from '../test/lab/etcd.ts';
import { table } from './measure.ts';

/** Addresses allocated per second, by one caller and by 64 concurrent callers, on each datastore. */

const signal = AbortSignal.timeout(120_000);

async function measure(options: DatastoreOptions): Promise<readonly string[]> {
  const store = await openDatastore(options);
  const mirror = new LiveMirror(store);
  const stop = new AbortController();
  const running = mirror.run(stop.signal);
  await mirror.reached(0n, signal);
  const writer = new GroupWriter(mirror);
  await writer.write((draft) => {
    draft.put('IpamConfig', 'config', { auto_allocate_blocks: true, maxBlocksPerHost: 4000 });
    draft.put('Node', 'bench', {
      kind: 'Node',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'bench' },
      spec: {},
    });
    draft.put('IPPool', 'pool', {
      kind: 'IPPool',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'pool' },
      spec: { cidr: parseCidr('10.64.0.0/12'), blockSize: 26, nodeSelector: 'all()' },
    });
  }, signal);
  let made = 0;
  const ipam = createDockerIpam({
    usedRanges: () => [],
    node: 'bench',
    writer,
    now: () => new Date(),
    nonce: () => String(++made),
    stamp: (pool) => pool,
    last: new LastAddresses(),
  });
  const answered = await ipam.requestPool.answer(
    { AddressSpace: undefined, Pool: undefined, SubPool: undefined, Options: {}, V6: false },
    signal,
  );
  const PoolID = 'PoolID' in answered ? String(answered.PoolID) : '';
  const rates: string[] = [];
  for (const { callers, count } of [
    { callers: 1, count: 4000 },
    { callers: 64, count: 10_000 },
  ]) {
    const before = writer.transactions;
    const started = performance.now();
    let left = count;
    await Promise.all(
      Array.from({ length: callers }, async () => {
        while (left-- > 0) {
          await ipam.requestAddress.answer({ PoolID, Address: undefined, Options: {} }, signal);
        }
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    rates.push((count / seconds).toFixed(0), ((writer.transactions - before) / count).toFixed(3));
  }
  stop.abort();
  await store.close();
  await running;
  return [options.kind, ...rates];
}

/** Measures SQLite alone: durable commits of two rows of 4 kB, the size of one allocation. */
function bareCommits(file: string): string {
  const database = new DatabaseSync(file);
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  database.exec('CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID');
  const write = database.prepare('INSERT OR REPLACE INTO entry VALUES (?, ?)');
  const count = 4000;
  const started = performance.now();
  for (let n = 0; n < count; n++) {
    database.exec('BEGIN IMMEDIATE');
    for (const key of ['block', 'handle']) write.run(`${key} ${n % 50}`, 'x'.repeat(4000));
    database.exec('COMMIT');
  }
  const seconds = (performance.now() - started) / 1000;
  database.close();
  return (count / seconds).toFixed(0);
}

const folder = mkdtempSync(join(tmpdir(), 'calico-bench-'));
await using etcd = await startEtcd();
const rows = [
  ['SQLite alone, two rows of 4 kB', bareCommits(join(folder, 'bare.db')), '1.000', '', ''],
  await measure({ kind: 'sqlite', file: join(folder, 'calico.db') }),
  await measure({ kind: 'etcd', endpoints: [etcd.endpoint] }),
];
rmSync(folder, { recursive: true });
process.stdout.write(
  table(
    [
      'datastore',
      '1 caller: per second',
      'transactions each',
      '64 callers: per second',
      'transactions each',
    ],
    rows,
  ),
);
