import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

/** The file behind the loop device of a number, or nothing. */
function fileBehind(device: string): string {
  try {
    return readFileSync(`/sys/dev/block/${device}/loop/backing_file`, 'utf8').trim();
  } catch {
    return '';
  }
}

test('a slow disk of the lab goes with its machine, also when the tests are killed', async () => {
  const script = `
    const { engineRoot } = await import('${import.meta.dirname}/../lab/engine.ts');
    const { startMachine } = await import('${import.meta.dirname}/../lab/machine.ts');
    const machine = await startMachine({
      root: await engineRoot('20.10'), backend: 'nft', uplink: false, writesPerSecond: 20, bare: true,
    });
    console.log(machine.pid + ' ' + machine.name);
    setInterval(() => undefined, 1000);`;
  const tests = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const lines = createInterface({ input: tests.stdout });
    const line: unknown = await once(lines, 'line', { signal: AbortSignal.timeout(60_000) });
    const [pid = '', name = ''] = String(line).split(' ');
    const { dev } = statSync(`/proc/${pid}/root/var/lib/docker`);
    const device = `${dev >> 8}:${dev & 0xff}`;
    const file = fileBehind(device);
    const isLeft = () => fileBehind(device) === file || existsSync(`/sys/fs/cgroup/blkio/${name}`);
    assert.match(file, /^\/var\/tmp\/calico-lab-disk\.\w+ \(deleted\)$/);
    assert.ok(isLeft());
    tests.kill('SIGKILL');
    for (const end = Date.now() + 30_000; isLeft() && Date.now() < end;) await sleep(50);
    assert.ok(!isLeft());
  } finally {
    tests.kill('SIGKILL');
  }
});
