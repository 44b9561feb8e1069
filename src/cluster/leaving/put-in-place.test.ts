import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { GroupWriter } from '../../cache/group-writer.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import { loadSettings } from '../../config/load.ts';
import { bootstrap } from '../../datastore/bootstrap.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { withMoveMark } from '../../model/kinds/cluster-information.ts';
import { createStamp } from '../../model/stamp.ts';
import { clusterPaths, readClusterFile, writeClusterFile } from '../cluster-file.ts';
import { datastoreAccess } from '../datastore-access.ts';
import { leaveFor, putAside, putAsideFile } from './put-in-place.ts';

const signal = AbortSignal.timeout(600_000);
const stamp = createStamp({ now: () => new Date(), uuid: randomUUID });

/** A host of a cluster, in a folder that is removed. */
function startHost() {
  const folder = mkdtempSync(join(tmpdir(), 'put-in-place-'));
  const datastoreFile = join(folder, 'calico.db');
  const settings = { ...loadSettings({}, '/nonexistent').settings, datastoreFile };
  const paths = clusterPaths(settings);
  mkdirSync(paths.folder);
  const endpoints = ['https://192.0.2.1:2379'];
  const known = { uid: 'u', node: 'host-1', part: 'client', endpoints } as const;
  writeClusterFile(paths, { ...known, state: 'joined' });
  return {
    folder,
    datastoreFile,
    paths,
    /** The datastore of a daemon that starts now. */
    used: () => datastoreAccess(settings, 'node').kind,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

/** Writes a datastore whose data was moved away, or one of its own. */
async function writeStore(file: string, isMoved: boolean): Promise<void> {
  const store = await openSqliteStore(file);
  const writer = new GroupWriter(new UncachedView(store));
  await writer.write((draft) => {
    bootstrap(draft, { nodeName: 'host-1', stamp });
    const present = draft.get('ClusterInformation', 'default') ?? assert.fail();
    const mark = { id: 'm', node: 'host-1', from: 'a', to: 'b', since: '' };
    const marked = isMoved ? withMoveMark(present, { ...mark, state: 'moved' }) : present;
    draft.put('ClusterInformation', 'default', marked);
  }, signal);
  await store.close();
}

test('killed at any step, the host uses its cluster, or its own datastore completely', async () => {
  using host = startHost();
  const { datastoreFile, paths } = host;
  const file = `${datastoreFile}.own`;
  await writeStore(datastoreFile, true);
  assert.equal(host.used(), 'etcd');
  await writeStore(file, false);
  assert.equal(host.used(), 'etcd');
  // The steps of `leaveFor`.
  putAside(datastoreFile);
  assert.equal(host.used(), 'etcd');
  const present = readClusterFile(paths) ?? assert.fail();
  writeClusterFile(paths, { ...present, state: 'leaving', step: 'alone' });
  assert.equal(host.used(), 'etcd');
  assert.equal(existsSync(datastoreFile), false, 'nothing is created by looking');
  renameSync(file, datastoreFile);
  assert.equal(host.used(), 'sqlite');
});

test('a repeated attempt takes the place of an interrupted one, and the former datastore is kept', async () => {
  using host = startHost();
  const { datastoreFile, paths } = host;
  await writeStore(datastoreFile, true);
  putAside(datastoreFile);
  const file = `${datastoreFile}.own`;
  await writeStore(file, false);
  leaveFor(paths, { file, datastoreFile });
  assert.equal(host.used(), 'sqlite');
  assert.deepEqual(
    { state: readClusterFile(paths)?.state, step: readClusterFile(paths)?.step },
    { state: 'leaving', step: 'alone' },
  );
  assert.equal(existsSync(putAsideFile(datastoreFile)), true);
});

test('what SQLite has beside the former datastore does not stay beside the new one', async () => {
  using host = startHost();
  const { datastoreFile } = host;
  // Another process has it open, so that its log stays.
  const reader = new DatabaseSync(datastoreFile);
  reader.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)');
  assert.equal(existsSync(`${datastoreFile}-wal`), true);
  putAside(datastoreFile);
  for (const one of ['', '-wal', '-shm']) assert.equal(existsSync(`${datastoreFile}${one}`), false);
  reader.close();
  const kept = new DatabaseSync(putAsideFile(datastoreFile));
  assert.equal(kept.prepare('SELECT count(*) AS n FROM t').get()?.['n'], 1);
  kept.close();
});
