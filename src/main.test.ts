import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

/** Has Node warn all the time, as of a library that uses something deprecated or leaks a listener. */
const warning = `data:text/javascript,${encodeURIComponent(
  `setInterval(() => process.emitWarning('raw', 'DeprecationWarning'), 1).unref(); process.emitWarning('raw')`,
)}`;

for (const argv of [['version'], ['run'], ['get', 'nothing'], ['apply', '-f', '-']]) {
  test(`calico-cnm ${argv.join(' ')} says nothing of what Node warns of`, () => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [`--import=${warning}`, `${import.meta.dirname}/main.ts`, ...argv],
      {
        encoding: 'utf8',
        input: '? [a, b]\n: 1\n',
        env: { CALICO_MTU: 'wrong', NODE_NO_WARNINGS: '0' },
      },
    );
    assert.match(`${stdout}${stderr}`, /^calico-cnm[: ].*\n$/, 'one line');
  });
}

test('Ctrl-C ends a command that waits, at the first time', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-main-'));
  const socket = join(folder, 'control.sock');
  const { promise: connected, resolve } = Promise.withResolvers<void>();
  // A daemon that does not respond; it ends with the command.
  const server = createServer((client) => {
    client.on('error', () => undefined).on('close', () => server.close());
    client.resume();
    resolve();
  }).listen(socket);
  await once(server, 'listening');
  const command = spawn(process.execPath, [`${import.meta.dirname}/main.ts`, 'status'], {
    env: { CALICO_CONTROL_SOCKET: socket },
    stdio: 'ignore',
  });
  const ended = once(command, 'exit');
  await connected;
  command.kill('SIGINT');
  const how = await ended;
  rmSync(folder, { recursive: true });
  assert.deepEqual(how, [null, 'SIGINT']);
});
