import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createDockerApi, type DockerApi } from './docker-api.ts';

const signal = AbortSignal.timeout(600_000);

/** A Docker that responds as the listener does. */
async function withDocker(
  answer: RequestListener,
  use: (docker: DockerApi) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'calico-docker-'));
  const server = createServer(answer);
  try {
    await new Promise<void>((resolve) => server.listen(join(folder, 's'), resolve));
    await use(createDockerApi(`unix://${folder}/s`));
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  }
}

test('a redirect is treated as any unexpected response, and is not followed to any host', async () => {
  let asked = 0;
  const elsewhere = createServer((_request, response) => {
    asked++;
    response.end('{}');
  });
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  try {
    const address = elsewhere.address();
    const port = typeof address === 'object' ? address?.port : 0;
    for (const location of [`http://127.0.0.1:${port}/`, 'http://x.invalid/', 'weird://x/']) {
      await withDocker(
        (_request, response) => response.writeHead(301, { location }).end(),
        async (docker) => {
          await assert.rejects(docker.network('a'.repeat(64), signal), {
            code: 'docker/unavailable',
          });
          await assert.rejects(docker.start('a'.repeat(64), signal), {
            code: 'docker/unavailable',
          });
        },
      );
    }
    assert.equal(asked, 0);
  } finally {
    elsewhere.close();
  }
});

test('an invalid ID does not exist, and Docker is not queried', async () => {
  let asked = 0;
  await withDocker(
    (_request, response) => {
      asked++;
      response.end('{}');
    },
    async (docker) => {
      for (const id of ['', '..', '../../x', 'a/b', 'a?b', 'a b', 'a%2f', '-a']) {
        assert.equal(await docker.network(id, signal), undefined, id);
        assert.equal(await docker.lastStart(id, signal), undefined, id);
      }
    },
  );
  assert.equal(asked, 0);
});

test('a broken connection is reported as Docker unavailable, whatever the request', async () => {
  await withDocker(
    (request) => request.socket.destroy(),
    async (docker) => {
      const questions = [
        docker.engine(signal),
        docker.networks(signal),
        docker.network('a', signal),
        docker.containers(signal),
        docker.services(signal),
        docker.enabledPlugins(signal),
        docker.start('a', signal),
        docker.events(signal),
      ];
      for (const question of questions) {
        await assert.rejects(question, { code: 'docker/unavailable' });
      }
    },
  );
});

test('an event stream whose connection breaks ends, and delivers the events received before', async () => {
  let breakOff = (): void => undefined;
  await withDocker(
    (_request, response) => {
      response.write('{"Type":"network","Action":"create","Actor":{"ID":"n"}}\n');
      breakOff = () => response.socket?.destroy();
    },
    async (docker) => {
      const heard: unknown[] = [];
      const listening = async () => {
        for await (const { Action } of await docker.events(signal)) {
          heard.push(Action);
          breakOff();
        }
      };
      await listening().catch(() => undefined);
      assert.deepEqual(heard, ['create']);
    },
  );
});

test('events end when the signal is aborted, before the first and while waiting for one', async () => {
  await withDocker(
    (_request, response) => response.write('{"Type":"network","Action":"create"}\n'),
    async (docker) => {
      for (const isHeard of [false, true]) {
        const stop = new AbortController();
        const events = await docker.events(stop.signal);
        if (!isHeard) stop.abort();
        const listening = async () => {
          for await (const _ of events) stop.abort();
        };
        // A promise that is never settled would end the test process when nothing else is pending.
        await Promise.race([
          listening().catch(() => undefined),
          new Promise((_, reject) => setTimeout(() => reject(new Error('no end')), 10_000).unref()),
        ]);
      }
    },
  );
});
