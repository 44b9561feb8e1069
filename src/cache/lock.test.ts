import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { lockContract } from './lock.fixture.ts';
import { lockedError } from './lock.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';

describe('the lock of a SQLite datastore', () => lockContract(() => openSqliteStore(':memory:')));

test('the error of a locked datastore says what locked it', () => {
  const mark = {
    id: 'm',
    node: 'host-a',
    from: 'calico.db',
    to: 'etcd.example',
    since: '2026-08-22',
  };
  assert.equal(lockedError('here').code, 'datastore/locked');
  for (const [state, code, facts] of [
    ['copying', 'datastore/moving', ['host-a', 'calico.db', 'etcd.example', '2026-08-22']],
    ['arriving', 'datastore/incomplete', ['here', 'calico.db']],
    ['moved', 'datastore/moved', ['here', 'etcd.example']],
    ['restored', 'datastore/restoring', ['here', 'calico.db', '2026-08-22']],
  ] as const) {
    const error = lockedError('here', { ...mark, state });
    assert.equal(error.code, code);
    for (const fact of facts) assert.ok(error.message.includes(fact), error.message);
  }
});
