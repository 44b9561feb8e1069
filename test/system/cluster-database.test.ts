import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newMemory } from '../../src/cluster/etcd/keeper.ts';
import { configurationFile, etcdUnit } from '../../src/cluster/etcd/configuration.ts';
import { maintain } from '../../src/cluster/etcd/maintenance.ts';
import type { Datastore } from '../../src/datastore/datastore.ts';
import { MemberCluster } from '../lab/etcd-members.ts';
import { unlessLong } from '../lab/long.ts';
import { enterNewNamespace, type OwnNamespace } from '../lab/namespace.ts';

const { signal } = new AbortController();
const mebibyte = 1 << 20;

/** The database of the etcd of a cluster: it stays small, and recovers when it is full. */
describe('the database of etcd', { timeout: 600_000 }, () => {
  let namespace: OwnNamespace;
  let cluster: MemberCluster;
  before(() => {
    namespace = enterNewNamespace();
    cluster = new MemberCluster();
  });
  after(async () => {
    try {
      await cluster?.[Symbol.asyncDispose]();
    } finally {
      namespace?.[Symbol.dispose]();
    }
  });

  /** Writes values that are each replaced at once, as blocks and endpoints are in the life of a container. */
  const churn = async (datastore: Datastore, from: number, to: number) => {
    const block = 'x'.repeat(8000);
    const endpoint = 'y'.repeat(1500);
    const known = new Map<string, bigint>();
    const put = async (key: string, value: string | undefined) => {
      const compares = [{ key, modRevision: known.get(key) ?? 0n }];
      const result = await datastore.commit({ compares, writes: [{ key, value }] }, signal);
      assert.equal(result.kind, 'committed');
      known.set(key, value === undefined ? 0n : result.revision);
    };
    for (let life = from; life < to; life += 10) {
      await Promise.all(
        Array.from({ length: 10 }, async (_, index) => {
          const own = `/calico/test/endpoint-${life + index}`;
          await put(`/calico/test/block-${from}-${index}`, `${block}${life}`);
          await put(own, endpoint);
          await put(own, `${endpoint}ready`);
          await put(`/calico/test/block-${from}-${index}`, `${block}${life}-`);
          await put(own, undefined);
        }),
      );
    }
  };
  /** Waits until the restarted etcd responds. */
  const serves = async (datastore: Datastore) => {
    while ((await datastore.read(['/'], signal).catch(() => undefined)) === undefined) {
      await sleep(100);
    }
  };
  const sizes = async () => {
    const admin = await cluster.admin();
    const [member] = await admin.members();
    const status = await admin.status(member ?? assert.fail());
    return typeof status === 'string' ? assert.fail(status) : status;
  };

  test('a full database is compacted and defragmented, and accepts writes again', async () => {
    const first = await cluster.init();
    await first.stopDaemon();
    const file = configurationFile(first.paths);
    const small = `quota-backend-bytes: ${16 * mebibyte}`;
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^quota-backend-bytes: .*$/m, small));
    await first.units.restart(etcdUnit);
    await using store = await cluster.open();
    await serves(store.datastore);
    // On a slow disk a write may come to its deadline before etcd says that the database is full.
    for (let from = 0; !(await sizes()).isFull; from += 10_000) {
      await assert.rejects(churn(store.datastore, from, from + 10_000));
    }
    let why = '';
    for (let from = 90_000; !why.includes('database space exceeded'); from++) {
      await churn(store.datastore, from, from + 1).catch((error: unknown) => (why = String(error)));
    }
    // The keeper that starts now can take no lease.
    first.startDaemon();
    const end = Date.now() + 180_000;
    while ((await sizes()).isFull) {
      assert.ok(Date.now() < end, cluster.lines.join('\n'));
      await sleep(100);
    }
    await churn(store.datastore, 20_000, 20_100);
  });

  test(
    'after 10,000 lives of containers it is smaller than 50 MB',
    { skip: unlessLong() },
    async () => {
      const first = cluster.host(1);
      await first.stopDaemon();
      const file = configurationFile(first.paths);
      const large = `quota-backend-bytes: ${1 << 30}`;
      writeFileSync(file, readFileSync(file, 'utf8').replace(/^quota-backend-bytes: .*$/m, large));
      await first.units.restart(etcdUnit);
      await using store = await cluster.open();
      await serves(store.datastore);
      const admin = await cluster.admin();
      await churn(store.datastore, 100_000, 110_000);
      const before = await sizes();
      const memory = newMemory();
      await maintain({ admin, log: cluster.log('test') }, memory, signal);
      // History is kept for a minute.
      await sleep(61_000);
      await maintain({ admin, log: cluster.log('test') }, memory, signal);
      const after = await sizes();
      process.stdout.write(`before ${before.fileBytes} bytes, after ${after.fileBytes} bytes\n`);
      assert.ok(after.fileBytes <= 50_000_000, `${after.fileBytes} bytes`);
    },
  );
});
