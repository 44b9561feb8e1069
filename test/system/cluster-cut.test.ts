import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inBackground } from '../../src/async/background.fixture.ts';
import { Work } from '../../src/async/supervise.ts';
import { enableAuth, putNodeUser, removeNodeUser } from '../../src/cluster/auth.ts';
import { clusterPaths } from '../../src/cluster/cluster-file.ts';
import { EtcdAdmin } from '../../src/cluster/etcd/admin.ts';
import { followCuts, requestCut } from '../../src/cluster/etcd/cut-connections.ts';
import { adminUser, etcdUserOf } from '../../src/cluster/roles.ts';
import type { Datastore } from '../../src/datastore/datastore.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { entryTypeOf } from '../../src/model/kinds/index.ts';
import { makeAuthority } from '../lab/certificates.ts';
import { startEtcdCluster } from '../lab/etcd.ts';
import { makeTemporaryFolder } from '../lab/temporary-folder.ts';

const signal = AbortSignal.timeout(600_000);

/** Collects the values of all changes until the watch ends. */
function watched(store: Datastore, revision: bigint) {
  const seen: string[] = [];
  const ended = (async () => {
    for await (const { changes } of store.watch('/calico/', revision, signal)) {
      seen.push(...changes.map(({ value }) => value ?? ''));
    }
  })();
  // It is awaited later.
  ended.catch(() => undefined);
  return { seen, ended };
}

test(
  'the watches of a removed host end within seconds, and no write and no watch of the others is lost',
  { timeout: 600_000 },
  async (context) => {
    await using made = new AsyncDisposableStack();
    const folder = made.use(makeTemporaryFolder('calico-cut-')).path;
    const authority = await makeAuthority(folder, 'ca');
    // Loopback addresses of this process alone, because members have the default ports.
    const net = `127.${128 + ((process.pid >> 8) & 63)}.${process.pid & 255}`;
    const addresses = [1, 2, 3].map((last) => `${net}.${last}`);
    const root = await authority.issue(adminUser);
    // Peers connect from 127.0.0.1, and etcd compares that with their certificate.
    const tls = await authority.issue('etcd', [...addresses, '127.0.0.1']);
    const members = await startEtcdCluster(addresses, { tls, admin: root, folder });
    for (const member of members) made.use(member);
    const endpoints = members.map(({ endpoint }) => endpoint);
    const issued = new Map<string, ReturnType<typeof authority.issue>>();
    const as = async (name: string) => {
      // Two at a time would write the same files.
      const files = issued.get(name) ?? authority.issue(name);
      issued.set(name, files);
      const { ca: caFile, cert: certFile, key: keyFile } = await files;
      return { endpoints, caFile, certFile, keyFile };
    };
    const open = async (name: string, index?: number) => {
      const options = { kind: 'etcd', ...(await as(name)) } as const;
      const [only] = endpoints.slice(index);
      const some = index === undefined || only === undefined ? endpoints : [only];
      const store = await openDatastore({ ...options, endpoints: some });
      made.defer(() => store.close());
      return store;
    };
    const admin = await EtcdAdmin.open(await as(adminUser));
    for (const name of ['stays', 'goes']) await putNodeUser(admin.client.auth, name);
    await enableAuth(admin.client.auth);
    const [stays, root0] = [await open(etcdUserOf('stays')), await open(adminUser)];
    const { revision } = await stays.read(['/calico/x'], signal);
    const kept = watched(stays, revision);
    const cut = await Promise.all(
      [0, 1, 2].map(async (index) => watched(await open(etcdUserOf('goes'), index), revision)),
    );
    const key = entryTypeOf.Profile.key('web');
    let count = 0;
    let modRevision = 0n;
    const write = async () => {
      const writes = [{ key, value: String(++count) }];
      const result = await stays.commit({ compares: [{ key, modRevision }], writes }, signal);
      assert.equal(result.kind, 'committed');
      modRevision = result.revision;
    };
    await write();
    while ([kept, ...cut].some(({ seen }) => seen.length === 0)) await sleep(20);

    const stop = new AbortController();
    const restarted: number[] = [];
    for (const [index, member] of members.entries()) {
      const paths = clusterPaths({ datastoreFile: join(folder, `${index}`, 'calico.db') });
      mkdirSync(paths.etcd, { recursive: true });
      const units = {
        restart: async () => {
          restarted.push(index);
          await member.stop();
          await member.start();
          restarted.push(index);
        },
      };
      const datastore = await open(adminUser);
      const deps = { node: `etcd-${index + 1}`, datastore, admin, paths, units };
      const work = new Work(`cuts of ${deps.node}`, { onFailure: () => undefined });
      made.use(inBackground((ended) => followCuts(deps, work, ended)));
    }
    await sleep(1000);
    assert.deepEqual(restarted, []);
    const writing = (async () => {
      for (; !stop.signal.aborted; await sleep(10)) await write();
    })();
    const began = performance.now();
    await removeNodeUser(admin.client.auth, 'goes');
    await requestCut(root0, signal);
    for (const { ended } of cut) await assert.rejects(ended, { code: 'datastore/watch-lost' });
    context.diagnostic(`all watches cut after ${Math.round(performance.now() - began)} ms`);
    while (restarted.length < 6) await sleep(20);
    stop.abort();
    await writing;
    for (const at of [0, 2, 4]) {
      assert.equal(restarted[at], restarted[at + 1], `one after the other: ${restarted.join(' ')}`);
    }
    const after = count;
    await write();
    while (!kept.seen.includes(String(after + 1))) await sleep(20);
    assert.deepEqual(
      kept.seen.filter((value, index) => kept.seen.indexOf(value) !== index),
      [],
      'no change is seen twice',
    );
    for (const { seen } of cut) assert.ok(Number(seen.at(-1)) < after);
  },
);
