import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { listenOnSocketFile } from './socket-file.ts';

const call = 'POST /Test.Call HTTP/1.1\r\nHost: \r\nContent-Length: 2\r\n\r\n{}';

/** Parts of a call that are followed by nothing. */
const beginnings = ['', 'POST /Te', call.slice(0, -4), call.slice(0, -1)];

interface Client {
  readonly socket: Socket;
  /** The response received when the other end has closed. */
  readonly ended: Promise<string>;
}

function client(file: string, says: string): Client {
  const socket = connect(file);
  socket.setEncoding('utf8');
  let told = '';
  socket.on('data', (text: string) => (told += text));
  socket.on('error', () => undefined);
  const ended = new Promise<string>((resolve) => socket.on('close', () => resolve(told)));
  socket.write(says);
  return { socket, ended };
}

async function inFolder(use: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'socket-file-'));
  try {
    await use(join(folder, 'calico.sock'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test(
  'a client that sends only part of a call is disconnected, a long call is not',
  { timeout: 60_000 },
  () =>
    inFolder(async (file) => {
      const socket = await listenOnSocketFile(file, { arrivalMs: 500, closeMs: 60_000 });
      const answers = Promise.withResolvers<void>();
      socket.serve((request, response) => {
        request.on('error', () => undefined);
        request.resume().on('end', () => {
          void answers.promise.then(() => response.setHeader('connection', 'close').end('done'));
        });
      });
      const long = client(file, call);
      const slow = Array.from({ length: 200 }, (_, index) =>
        client(file, beginnings[index % beginnings.length] ?? ''),
      );
      await Promise.all(slow.map(({ ended }) => ended));
      assert.equal(long.socket.destroyed, false);
      answers.resolve();
      assert.match(await long.ended, /^HTTP\/1\.1 200 [^]*done/);
      await socket.close();
    }),
);

test('a partial call does not keep the socket from closing', { timeout: 60_000 }, () =>
  inFolder(async (file) => {
    const socket = await listenOnSocketFile(file, { arrivalMs: 600_000, closeMs: 100 });
    socket.serve((request) => request.on('error', () => undefined));
    const slow = beginnings.map((says) => client(file, says));
    await Promise.all(slow.map(({ socket: one }) => new Promise((go) => one.once('ready', go))));
    await socket.close();
    await Promise.all(slow.map(({ ended }) => ended));
  }),
);
