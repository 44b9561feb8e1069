import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isCalicoError } from '../../errors/error.ts';
import { requestMove } from './request.ts';

test('a daemon that ends during a move is said to have ended, whatever it has sent', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'request-'));
  const file = join(folder, 'control.sock');
  const sent = ['', '{"progress":"locked"}\n', '{"progress":"locked"}\n{"prog'];
  const server = createServer((_request, response) => {
    void (async () => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.write(sent[0] ?? '');
      await sleep(10);
      response.socket?.destroy();
    })();
  });
  try {
    server.listen(file);
    await once(server, 'listening');
    for (; sent.length > 0; sent.shift()) {
      const progress: string[] = [];
      const asked = { to: { kind: 'sqlite', file: '/x' }, target: 'empty' } as const;
      await assert.rejects(
        requestMove(file, asked, (line) => progress.push(line)),
        (error) => isCalicoError(error, 'cli/not-running'),
        sent[0],
      );
      assert.equal(progress.length, sent[0] === '' ? 0 : 1);
    }
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
});
