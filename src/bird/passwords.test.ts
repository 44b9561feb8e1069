import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { passwordReference } from '../model/bgp.ts';
import { readPassword } from './passwords.ts';

test('a password is the text of its file, which only its owner can read', () => {
  const folder = mkdtempSync(join(tmpdir(), 'passwords-'));
  try {
    mkdirSync(join(folder, 'bgp'));
    const file = join(folder, 'bgp', 'rack');
    const reference = { name: 'bgp', key: 'rack' };
    const why = () => {
      const found = readPassword(folder, reference);
      return found.password === undefined ? found.why.replace(file, 'FILE') : found.password;
    };
    assert.equal(why(), 'password file FILE does not exist');
    writeFileSync(file, 'secret\n', { mode: 0o600 });
    assert.equal(why(), 'secret');
    chmodSync(file, 0o640);
    assert.equal(why(), `password file FILE is readable by others; chmod 600 ${file}`);
    chmodSync(file, 0o600);
    for (const [text, problem] of [
      ['', /is empty$/],
      ['a"b', /has a quotation mark/],
      ['x'.repeat(81), /more than 80 bytes$/],
    ] as const) {
      writeFileSync(file, text);
      assert.match(why(), problem);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a reference names a file inside the folder only', () => {
  const of = (name: string, key: string) => passwordReference({ secretKeyRef: { name, key } });
  assert.deepEqual(of('bgp', 'rack-1'), { name: 'bgp', key: 'rack-1' });
  for (const name of ['..', '.', 'a/b', '']) assert.equal(of(name, 'key'), undefined, name);
});
