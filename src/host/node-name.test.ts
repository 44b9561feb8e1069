import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { chooseName, keepName } from './node-name.ts';

function inFolder(use: (file: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'calico-name-'));
  try {
    use(join(folder, 'calico', 'nodename'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('the host name becomes the node name once, and a later change of the host name does not', () =>
  inFolder((nodeNameFile) => {
    const settings = { nodeName: undefined, nodeNameFile };
    const first = keepName(settings);
    assert.deepEqual(first.warnings, []);
    assert.equal(readFileSync(nodeNameFile, 'utf8'), first.name);
    assert.equal(chooseName(settings, 'renamed-since').name, first.name);
    assert.equal(
      chooseName({ nodeName: undefined, nodeNameFile: '/nowhere' }, 'Host-A').name,
      'host-a',
    );
  }));

test('NODENAME takes precedence over the file, and the sentence says what that means', () =>
  inFolder((nodeNameFile) => {
    keepName({ nodeName: 'host-a', nodeNameFile });
    const renamed = keepName({ nodeName: 'host-b', nodeNameFile });
    assert.deepEqual([renamed.name, renamed.former], ['host-b', 'host-a']);
    assert.match(
      renamed.warnings.join(),
      /was node host-a and is now node host-b.*remove NODENAME/,
    );
    assert.match(renamed.warnings.join(), /calico-cnm node delete host-a/);
    assert.equal(readFileSync(nodeNameFile, 'utf8'), 'host-b');
    assert.equal(chooseName({ nodeName: undefined, nodeNameFile }).name, 'host-b');
  }));

test('a file without a valid name is replaced, and one that cannot be written is a warning', () =>
  inFolder((nodeNameFile) => {
    keepName({ nodeName: 'host-a', nodeNameFile });
    for (const broken of ['', '-- broken\n']) {
      writeFileSync(nodeNameFile, broken);
      const { warnings } = chooseName({ nodeName: undefined, nodeNameFile }, 'host-c');
      assert.match(warnings.join(), /contains no valid node name; using host-c/);
    }
    const chosen = keepName({ nodeName: 'host-c', nodeNameFile });
    assert.match(chosen.warnings.join(), /contains no valid node name; using host-c/);
    assert.equal(readFileSync(nodeNameFile, 'utf8'), 'host-c');
    const unwritable = keepName({
      nodeName: 'host-a',
      nodeNameFile: join(nodeNameFile, 'no-folder'),
    });
    assert.match(unwritable.warnings.join(), /cannot write the node name to .*no-folder/);
  }));
