import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { lastConflict, lockHost } from './host-lock.ts';

// The kernel's lock is on the open file: a second attempt of the same process is rejected like any other.
function inFolder(use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'calico-lock-'));
  try {
    use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a daemon that is started twice is rejected, and the first one stays healthy', () => {
  inFolder((folder) => {
    lockHost(folder, 'systemd daemon');
    assert.throws(() => lockHost(folder, 'systemd daemon'), {
      message: `the daemon is already running on this host (process ${process.pid}); see calico-cnm status`,
    });
    assert.equal(lastConflict(folder), undefined);
  });
});

test('the other installation is rejected, and both report it', () => {
  inFolder((folder) => {
    lockHost(folder, 'systemd daemon');
    const sentence =
      /the managed plugin cannot start: the systemd daemon .*already serves this host/;
    assert.throws(() => lockHost(folder, 'managed plugin'), sentence);
    assert.match(lastConflict(folder) ?? '', sentence);
  });
});

test('two managed plugins are a duplicate installation as well', () => {
  inFolder((folder) => {
    lockHost(folder, 'managed plugin');
    assert.throws(
      () => lockHost(folder, 'managed plugin'),
      /the managed plugin .*already serves this host/,
    );
    assert.match(lastConflict(folder) ?? '', /the managed plugin .*already serves this host/);
  });
});
