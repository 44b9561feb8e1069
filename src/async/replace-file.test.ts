import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { replaceFile, replaceFileSync } from './replace-file.ts';

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'calico-replace-'));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a file is replaced as a whole, with its mode, and its directory is created', () =>
  inFolder(async (folder) => {
    const file = join(folder, 'deep', 'state');
    replaceFileSync(file, 'one', 0o600);
    const { ino } = statSync(file);
    replaceFileSync(file, 'two', 0o600);
    assert.equal(readFileSync(file, 'utf8'), 'two');
    assert.notEqual(statSync(file).ino, ino);
    assert.equal(statSync(file).mode & 0o777, 0o600);
  }));

test('a failed write leaves the file unchanged, and no temporary file', () =>
  inFolder(async (folder) => {
    const file = join(folder, 'state');
    const modes = { mode: 0o600, folderMode: 0o700 };
    await replaceFile(file, modes, async (target) => {
      await target.write('one');
    });
    const failing = replaceFile(file, modes, async (target) => {
      await target.write('tw');
      throw new Error('the disk is full');
    });
    await assert.rejects(failing, /the disk is full/);
    assert.equal(readFileSync(file, 'utf8'), 'one');
    assert.deepEqual(readdirSync(folder), ['state']);
  }));
