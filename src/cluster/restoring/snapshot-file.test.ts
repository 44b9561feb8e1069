import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { isCalicoError } from '../../errors/error.ts';
import { requireSnapshot } from './snapshot-file.ts';

test('what is no snapshot of etcd is told apart, and why', () => {
  const folder = mkdtempSync(join(tmpdir(), 'snapshot-'));
  try {
    const file = join(folder, 'backup.db');
    const database = new DatabaseSync(join(folder, 'calico.db'));
    database.exec('CREATE TABLE t (x)');
    database.close();
    const snapshot = Buffer.alloc(4096 + 32);
    snapshot.writeUInt32LE(0xed0cdaed, 16);
    const refused = (name: string, why: RegExp) =>
      assert.throws(
        () => requireSnapshot(join(folder, name)),
        (error) => isCalicoError(error, 'cluster/not-a-backup') && why.test(error.message),
      );
    refused('nothing.db', /nothing\.db.*no such file/);
    refused('.', /it is a directory/);
    refused('calico.db', /SQLite file of a single host/);
    for (const text of ['', 'garbage', 'x'.repeat(5000)]) {
      writeFileSync(file, text);
      refused('backup.db', /it is no snapshot of etcd/);
    }
    writeFileSync(file, snapshot.subarray(0, 4096));
    refused('backup.db', /it is incomplete/);
    writeFileSync(file, snapshot);
    requireSnapshot(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
