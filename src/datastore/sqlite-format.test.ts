import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { sqliteFormat, sqliteSteps } from './sqlite-format.ts';
import { openSqliteStore } from './sqlite-store.ts';

const signal = AbortSignal.timeout(600_000);

async function inFolder(use: (file: string, folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'calico-format-'));
  try {
    await use(join(folder, 'calico.db'), folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A file as the program of an earlier format left it: one value, written at revision 2. */
function makeFormat(file: string, format: number): void {
  const database = new DatabaseSync(file);
  database.exec('PRAGMA journal_mode = WAL');
  for (const step of sqliteSteps.slice(0, format)) database.exec(step);
  database.exec(`
    PRAGMA user_version = ${format};
    INSERT INTO entry VALUES ('/calico/a', 'kept', 2);
    INSERT INTO log (revision, key) VALUES (2, '/calico/a');
    UPDATE state SET revision = 2;
  `);
  database.close();
}

function read(file: string) {
  const database = new DatabaseSync(file, { readOnly: true });
  const format = database.prepare('PRAGMA user_version').get()?.['user_version'];
  const entries = database.prepare('SELECT key, value, mod_revision FROM entry').all();
  database.close();
  return { format, entries: entries.map((row) => ({ ...row })) };
}

const kept = { key: '/calico/a', value: 'kept', mod_revision: 2 };

for (let format = 1; format < sqliteFormat; format++) {
  test(`a file of format ${format} is migrated, with a permanent copy readable by its owner alone`, () =>
    inFolder(async (file) => {
      makeFormat(file, format);
      const store = await openSqliteStore(file);
      assert.equal((await store.read(['/calico/a'], signal)).items[0]?.value, 'kept');
      const changed = { key: '/calico/a', value: 'changed' };
      await store.commit(
        { compares: [{ key: '/calico/a', modRevision: 2n }], writes: [changed] },
        signal,
      );
      const seen: unknown[] = [];
      for await (const batch of store.watch('/calico/', 1n, signal)) {
        seen.push(...batch.changes);
        break;
      }
      assert.deepEqual(seen, [{ ...changed, modRevision: 3n }]);
      await store.close();
      assert.equal(read(file).format, sqliteFormat);
      const backup = `${file}.backup-${format}`;
      assert.deepEqual(read(backup), { format, entries: [kept] });
      assert.equal((await stat(backup)).mode & 0o777, 0o600);
    }));
}

test('a file of the present format, and a new one, are opened without a copy', () =>
  inFolder(async (file, folder) => {
    await (await openSqliteStore(file)).close();
    await (await openSqliteStore(file)).close();
    assert.deepEqual(await readdir(folder), ['calico.db']);
    assert.equal(read(file).format, sqliteFormat);
  }));

test('a file whose migration fails is unchanged', () =>
  inFolder(async (file) => {
    makeFormat(file, 1);
    const database = new DatabaseSync(file);
    database.exec('ALTER TABLE log RENAME TO other');
    database.close();
    await assert.rejects(openSqliteStore(file), { code: 'datastore/unavailable' });
    assert.deepEqual(read(file), { format: 1, entries: [kept] });
  }));

test('processes that start at the same time migrate one after the other, and the copy is of the old file', () =>
  inFolder(async (file) => {
    makeFormat(file, 1);
    const module = new URL('sqlite-store.ts', import.meta.url).href;
    const script = `import(${JSON.stringify(module)})
      .then((m) => m.openSqliteStore(${JSON.stringify(file)})).then((s) => s.close())`;
    const programs = Array.from({ length: 3 }, () =>
      spawn(process.execPath, ['--eval', script], { stdio: 'inherit' }),
    );
    const ends = await Promise.all(programs.map((program) => once(program, 'exit')));
    assert.deepEqual(
      ends.map(([status]) => Number(status)),
      [0, 0, 0],
    );
    assert.equal(read(file).format, sqliteFormat);
    assert.deepEqual(read(`${file}.backup-1`), { format: 1, entries: [kept] });
  }));

test('a file of a newer program is rejected in one sentence and not changed', () =>
  inFolder(async (file, folder) => {
    await (await openSqliteStore(file)).close();
    const database = new DatabaseSync(file);
    database.exec(`PRAGMA user_version = ${sqliteFormat + 1}`);
    database.close();
    const before = await readFile(file);
    await assert.rejects(openSqliteStore(file), {
      message:
        `datastore ${file} has format ${sqliteFormat + 1} of a newer calico-cnm ` +
        `(this version supports ${sqliteFormat}); install that version`,
    });
    assert.deepEqual(await readFile(file), before);
    assert.deepEqual(await readdir(folder), ['calico.db']);
  }));
