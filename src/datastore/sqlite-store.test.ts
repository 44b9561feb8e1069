import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { datastoreContract } from './contract.fixture.ts';
import { openSqliteStore } from './sqlite-store.ts';
import { listAll } from './datastore.ts';

const signal = AbortSignal.timeout(600_000);

async function inFolder(use: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'calico-sqlite-'));
  try {
    await use(join(folder, 'calico.db'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe('SQLite in memory', () => datastoreContract(() => openSqliteStore(':memory:')));

test('a file is readable by its owner alone, and keeps what was committed', () =>
  inFolder(async (file) => {
    const first = await openSqliteStore(file);
    const write = { key: '/calico/a', value: 'kept' };
    await first.commit({ compares: [], writes: [write] }, signal);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    await first.close();
    const second = await openSqliteStore(file);
    assert.equal((await second.read(['/calico/a'], signal)).items[0]?.value, 'kept');
    await second.close();
  }));

test('a write through one open file reaches the watch of another immediately', () =>
  inFolder(async (file) => {
    const [daemon, command] = [await openSqliteStore(file), await openSqliteStore(file)];
    const stop = new AbortController();
    const { revision } = await listAll(daemon, '/calico/', signal);
    const watching = (async () => {
      for await (const { changes } of daemon.watch('/calico/', revision, stop.signal))
        return changes;
      return [];
    })();
    await command.commit({ compares: [], writes: [{ key: '/calico/a', value: 'x' }] }, signal);
    assert.deepEqual(
      (await watching).map(({ key, value }) => [key, value]),
      [['/calico/a', 'x']],
    );
    await daemon.close();
    await command.close();
  }));

test('a file that is no database is rejected with its name', () =>
  inFolder(async (file) => {
    await writeFile(file, 'this is not a database, but long enough to be read as one '.repeat(50));
    await assert.rejects(
      openSqliteStore(file),
      (error: unknown) => error instanceof Error && error.message.includes(file),
    );
  }));
