import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { method } from '../driver/plugin/plugin-server.ts';
import { CalicoError } from '../errors/error.ts';
import { createDockerIpam } from '../ipam/docker/docker-ipam.ts';
import { LastAddresses } from '../ipam/docker/last-addresses.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { pluginServers } from './plugin-servers.ts';
import { z } from 'zod';

const quiet = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

/** A daemon that has just started: the test controls when its datastore has been read. */
async function starting(use: (daemon: Starting) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'plugin-servers-'));
  const socket = join(folder, 'calico.sock');
  const read = Promise.withResolvers<void>();
  const state = { isAway: false };
  const why = new CalicoError('datastore/not-in-sync', { endpoint: 'x' });
  const server = await pluginServers({
    network: { 'Test.Call': method(z.object({}), async () => ({ done: true })) },
    ipam: createDockerIpam({
      node: 'host-1',
      writer: { write: () => Promise.reject(why) },
      now: () => new Date(),
      nonce: () => '',
      stamp: (pool) => pool,
      usedRanges: () => [],
      last: new LastAddresses(),
    }),
    initialised: read.promise,
    isAway: () => state.isAway,
    whyNotReady: () => why,
    patience: { awayMs: 400, readingMs: 60_000 },
    log: quiet,
    metrics: createMetrics(),
    onActivated: () => {},
    logsBodies: false,
    onRefused: () => {},
  })('local');
  await server.listen([socket]);
  try {
    await use({ call: () => call(socket), state, read: () => read.resolve() });
  } finally {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Starting {
  readonly call: () => Promise<string>;
  readonly state: { isAway: boolean };
  readonly read: () => void;
}

function call(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: '/Test.Call', method: 'POST' }, (response) => {
      response.setEncoding('utf8');
      let body = '';
      response.on('data', (text: string) => (body += text));
      response.on('end', () => resolve(body));
    });
    sent.on('error', reject);
    sent.end('{}');
  });
}

test('a call waits while the datastore is being read, however slow this host is', () =>
  starting(async ({ call, read }) => {
    const calls = [call(), call()];
    // Longer than for an unavailable datastore.
    assert.equal(await Promise.race([...calls, sleep(1500)]), undefined);
    read();
    assert.deepEqual(await Promise.all(calls), ['{"done":true}', '{"done":true}']);
    assert.equal(await call(), '{"done":true}');
  }));

test('calls fail soon with the reason if the datastore is unavailable', () =>
  starting(async ({ call, state, read }) => {
    const waiting = call();
    state.isAway = true;
    assert.match(await waiting, /datastore x has not been read yet/);
    read();
    assert.equal(await call(), '{"done":true}');
  }));
