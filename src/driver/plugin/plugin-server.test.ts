import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import {
  createPluginServer,
  method,
  methodWithoutBody,
  type CallRecord,
  type PluginServer,
} from './plugin-server.ts';

let folder: string;
let socket: string;
let server: PluginServer;
const calls: CallRecord[] = [];
const slow = Promise.withResolvers<void>();
const slowBegan = Promise.withResolvers<void>();

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'plugin-server-'));
  socket = join(folder, 'calico.sock');
  await writeFile(socket, 'left over by a process that died');
  server = await createPluginServer({
    methods: {
      'Test.Echo': method(z.object({ name: z.string() }), async ({ name }) => ({ name })),
      'Test.Capabilities': methodWithoutBody(() => ({ Scope: 'local' })),
      'Test.Slow': method(z.object({}), async () => {
        slowBegan.resolve();
        await slow.promise;
        return { done: true };
      }),
    },
    onCall: (record) => calls.push(record),
  });
  await server.listen([socket]);
});

after(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly connection: string | undefined;
}

function post(path: string, body: string, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath: socket,
        path,
        method: 'POST',
        headers: { ...headers, 'content-length': Buffer.byteLength(body) },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => (text += part));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body: JSON.parse(text),
            connection: response.headers.connection,
          }),
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

test("a stale file at the socket's path is replaced, and only root’s group may connect", async () => {
  const { mode } = await stat(socket);
  assert.equal(mode & 0o777, 0o660);
  assert.deepEqual(await readdir(folder), ['calico.sock']);
});

test('a call is served whatever its content type, on a connection of its own', async () => {
  const accept = { accept: 'application/vnd.docker.plugins.v1.2+json' };
  for (const headers of [accept, { ...accept, 'content-type': 'text/plain' }]) {
    assert.deepEqual(await post('/Test.Echo', '{"name":"web","Unknown":null}\n', headers), {
      status: 200,
      body: { name: 'web' },
      connection: 'close',
    });
  }
});

test('the empty Host header of Docker 20.10 is accepted', async () => {
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const raw = connect(socket, () =>
      raw.write('POST /Test.Capabilities HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n'),
    );
    raw.on('data', (part) => (text += part.toString()));
    raw.on('close', () => resolve(text));
  });
  assert.match(answer, /^HTTP\/1\.1 200 /);
  assert.match(answer, /\{"Scope":"local"\}$/);
});

test('an empty body is rejected if the call needs one, and accepted if not', async () => {
  const { status, body } = await post('/Test.Echo', '');
  assert.equal(status, 500);
  assert.match(JSON.stringify(body), /empty body \(Docker retried on a closed/);
  assert.equal((await post('/Test.Capabilities', '')).status, 200);
});

test('an invalid body gets one line that names the field, under both keys, with the ID of the call', async () => {
  const { status, body } = await post('/Test.Echo', '{"name":5}');
  const { callId } = calls.at(-1) ?? { callId: '' };
  const message = `invalid request: name: must be a string [${callId}]`;
  assert.equal(status, 500);
  assert.deepEqual(body, { Err: message, Error: message });
  assert.equal(calls.at(-1)?.error?.code, 'driver/bad-request');
});

test('a body that is not JSON is rejected', async () => {
  const { body } = await post('/Test.Echo', '{');
  assert.match(JSON.stringify(body), /body is not JSON/);
});

test('an unknown call returns 404, which Docker takes as "not implemented"', async () => {
  const { status, body } = await post('/Test.Nothing', '{}');
  assert.equal(status, 404);
  assert.match(JSON.stringify(body), /unknown plugin call POST \/Test\.Nothing/);
});

test('closing lets the running call end, accepts no new one, and removes the socket', async () => {
  const running = post('/Test.Slow', '{}');
  await slowBegan.promise;
  const closed = server.close();
  await assert.rejects(post('/Test.Capabilities', ''), { code: 'ECONNREFUSED' });
  slow.resolve();
  assert.deepEqual((await running).body, { done: true });
  await closed;
  await assert.rejects(stat(socket), { code: 'ENOENT' });
});
