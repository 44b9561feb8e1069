import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { readHost, updateHost } from '../records.ts';
import { forget } from './keeper.ts';

const signal = AbortSignal.timeout(600_000);
const log = { info: () => undefined };
const gone = { address: '192.0.2.1', joined: '', wanted: 'gone' as const, attempt: 0 };

/** A datastore with the record of a host that has left, and the users of etcd. */
async function departure() {
  const datastore = await openSqliteStore(':memory:');
  await updateHost(datastore, 'host-1', () => gone, signal);
  const users = new Set(['host-1']);
  const put = async (node: string) => void users.add(node);
  const remove = async (node: string) => void users.delete(node);
  /** As a member admits the host: first the record, then the user. */
  const admit = async () => {
    await updateHost(datastore, 'host-1', () => ({ ...gone, wanted: 'client' }), signal);
    await put('host-1');
  };
  const left = async () => ({
    wanted: (await readHost(datastore, 'host-1', signal))?.wanted,
    users: [...users],
  });
  return { datastore, put, remove, admit, left };
}

describe('a host that has left', () => {
  test('is forgotten, with its user', async () => {
    const { datastore, put, remove, left } = await departure();
    await forget({ datastore, log, users: { put, remove } }, 'host-1', signal);
    assert.deepEqual(await left(), { wanted: undefined, users: [] });
  });

  test('and joins again before its user is removed keeps user and record', async () => {
    const { datastore, put, remove, admit, left } = await departure();
    const removing = async (node: string) => {
      await admit();
      await remove(node);
    };
    await forget({ datastore, log, users: { put, remove: removing } }, 'host-1', signal);
    assert.deepEqual(await left(), { wanted: 'client', users: ['host-1'] });
  });

  test('and joins again while its node is deleted keeps user and record', async () => {
    const { datastore, put, remove, admit, left } = await departure();
    let hasJoined = false;
    const commit: typeof datastore.commit = async (transaction, stop) => {
      if (!hasJoined) {
        hasJoined = true;
        await admit();
      }
      return datastore.commit(transaction, stop);
    };
    const store = {
      endpoint: datastore.endpoint,
      read: datastore.read.bind(datastore),
      pages: datastore.pages.bind(datastore),
      watch: datastore.watch.bind(datastore),
      close: datastore.close.bind(datastore),
      commit,
    };
    await forget({ datastore: store, log, users: { put, remove } }, 'host-1', signal);
    assert.deepEqual(await left(), { wanted: 'client', users: ['host-1'] });
  });
});
