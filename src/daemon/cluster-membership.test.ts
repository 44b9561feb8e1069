import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Work } from '../async/supervise.ts';
import { clusterPaths, writeClusterFile, writePem } from '../cluster/cluster-file.ts';
import { createAuthority } from '../cluster/pki/authority.ts';
import { issueKeyPair } from '../cluster/pki/key-pair.fixture.ts';
import { isCalicoError } from '../errors/error.ts';
import { createLogger } from '../telemetry/log.ts';
import { followEndpoints } from './cluster-membership.ts';

test('a cluster file that cannot be read ends the loop with its error, and not the process', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-membership-'));
  const paths = clusterPaths({ datastoreFile: join(folder, 'calico.db') });
  mkdirSync(paths.folder);
  const authority = await createAuthority(new Date());
  const own = await issueKeyPair(
    authority,
    { usage: 'client', commonName: 'node.host-1' },
    new Date(),
  );
  writePem(paths.ca, authority.certificate);
  writePem(paths.nodeCert, own.certificate);
  writePem(paths.nodeKey, own.key);
  // Nothing listens there.
  const endpoints = ['https://127.0.0.1:1'];
  const file = { uid: 'u', node: 'host-1', part: 'client', state: 'joined', endpoints } as const;
  writeClusterFile(paths, file);
  const { promise: failed, resolve } = Promise.withResolvers<unknown>();
  const none = () => Promise.resolve(undefined);
  const ended = followEndpoints(
    {
      paths,
      log: createLogger({ level: 'error', write: () => undefined, now: () => new Date() }),
      isManagedPlugin: false,
      address: () => undefined,
      detectAddress: none,
      hostAddresses: () => [],
      bringFiles: none,
      removeFiles: () => undefined,
      nodeAddresses: () => [],
      useEndpoints: () => Promise.resolve(),
    },
    new Work('endpoints', { onFailure: ({ error }) => resolve(error) }),
    AbortSignal.timeout(60_000),
  );
  const thrown = assert.rejects(ended, (error) => isCalicoError(error, 'cluster/bad-file'));
  assert.ok(isCalicoError(await failed, 'datastore/unavailable'));
  writeFileSync(paths.file, '{');
  await thrown;
  await sleep(0);
  rmSync(folder, { recursive: true });
});
