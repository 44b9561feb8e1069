import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { EngineProcess } from './engine-process.ts';

test('with systemd, Docker is queried only while dockerd runs; elsewhere always', () => {
  const root = `${mkdtempSync(join(tmpdir(), 'calico-engine-'))}/`;
  try {
    const runs = (pid: string, name: string) => {
      mkdirSync(`${root}proc/${pid}`, { recursive: true });
      writeFileSync(`${root}proc/${pid}/comm`, `${name}\n`);
    };
    runs('1', 'systemd');
    const engine = new EngineProcess(root);
    assert.equal(engine.mayBeAsked(), true);
    mkdirSync(`${root}run/systemd/system`, { recursive: true });
    assert.equal(engine.mayBeAsked(), false);
    runs('77', 'dockerd');
    assert.equal(engine.mayBeAsked(), true);
    rmSync(`${root}proc/77`, { recursive: true });
    assert.equal(engine.mayBeAsked(), false);
    runs('78', 'dockerd');
    assert.equal(engine.mayBeAsked(), true);
  } finally {
    rmSync(root, { recursive: true });
  }
});
